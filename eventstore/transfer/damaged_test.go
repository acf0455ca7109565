package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/eventstore/transfer"
)

// TestDamaged changes a file in every way that a file is damaged in: the line is
// named, and nothing is stored.
func TestDamaged(t *testing.T) {
	from := openSQLite(t)
	fill(t, from, 5)
	whole, _ := export(t, from)
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	last := len(lines) - 1
	to := openSQLite(t)
	change := func(line int, from, with string) string {
		all := append([]string(nil), lines...)
		if !strings.Contains(all[line-1], from) {
			t.Fatalf("line %d has no %s: %s", line, from, all[line-1])
		}
		all[line-1] = strings.Replace(all[line-1], from, with, 1)
		return strings.Join(all, "")
	}
	footer := fmt.Sprint("line ", len(lines), ": ")
	for name, c := range map[string]struct{ file, says string }{
		"empty":             {"", "line 1: is missing"},
		"no export":         {"{}\n", "line 1: the file has format 0"},
		"an image":          {"\x89PNG\r\n", "line 1: is none of an export"},
		"a newer format":    {change(1, `"waybill_export":1`, `"waybill_export":2`), "line 1: the file has format 2"},
		"no stream":         {change(1, `"ORDERS"`, `"orders"`), "line 1: stream"},
		"a floor too far":   {change(1, `"floor":7`, `"floor":99`), `line 1: durable "payment": has floor 99`},
		"header only":       {lines[0], "line 2: is missing: the file was cut short"},
		"no footer":         {strings.Join(lines[:last], ""), footer + "is missing"},
		"cut in an event":   {strings.Join(lines[:5], "") + lines[5][:20], "line 6: is none of an export, or was cut short"},
		"cut in the footer": {whole[:len(whole)-4], footer + "is none of an export, or was cut short"},
		"no JSON":           {change(3, `"id"`, `id`), "line 3: is none of an export"},
		"two values":        {change(3, "\n", " {}\n"), "line 3: has more than one JSON value"},
		"an empty line":     {change(4, lines[3], "\n"), "line 4: is none of an export"},
		"an unknown field":  {change(4, `"type"`, `"kind"`), `line 4: is none of an export, or was cut short: json: unknown field "kind"`},
		"no data":           {change(4, `,"data":`, `,"source":"x"}`), "line 4: has more"},
		"a wrong field":     {change(4, `"type":"happened"`, `"type":"Happened"`), "line 4: type: is"},
		"a line too long":   {change(4, `"type":"happened"`, `"type":"`+strings.Repeat("x", 2<<20)+`"`), "line 4: is longer than"},
		"another stream":    {change(4, `"ORDERS"`, `"ACCOUNTS"`), `line 4: stream: is "ACCOUNTS"; the file is of ORDERS`},
		"out of order":      {strings.Join(lines[:3], "") + lines[4] + lines[3] + strings.Join(lines[5:], ""), "line 4: position: is 4 where 3 comes"},
		"an event is gone":  {strings.Join(lines[:3], "") + strings.Join(lines[4:], ""), "line 4: position: is 4 where 3 comes"},
		"the last is gone":  {strings.Join(lines[:last-1], "") + lines[last], fmt.Sprint("line ", last, ": the file ends with")},
		"one too many":      {strings.Join(lines[:last], "") + lines[last-1] + lines[last], footer + "is none of an export"},
		"other data":        {change(3, "<a href", "<b href"), footer + "the file says that it has 20 events"},
		"another checksum":  {change(last+1, "sha256:", "sha256:0"), footer + "the file says"},
		"another count":     {change(last+1, `"events":2`, `"events":3`), footer + "the file says that it has 30 events"},
		"two exports":       {whole + whole, fmt.Sprint("line ", len(lines)+1, ": comes after the end")},
	} {
		_, err := transfer.Import(t.Context(), to, strings.NewReader(c.file), nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%s: %.300v\nwant %s", name, err, c.says)
		}
		has(t, to, 0)
	}
	if _, err := transfer.Import(t.Context(), to, strings.NewReader(strings.TrimSuffix(whole, "\n")), nil); err != nil {
		t.Error(err)
	}
}

// TestVersionsOfAFile has a file that is whole, and no history of a store: the
// database refuses it.
func TestVersionsOfAFile(t *testing.T) {
	from := openSQLite(t)
	fill(t, from, 0)
	whole, _ := export(t, from)
	file := strings.Replace(whole, `"version":2`, `"version":3`, 1)
	to := openSQLite(t)
	var invalid *eventstore.InvalidError
	if _, err := transfer.Import(t.Context(), to, strings.NewReader(file), nil); !errors.As(err, &invalid) || invalid.Field != "events[1].version" {
		t.Fatal(err)
	}
	has(t, to, 0)
}

// broken takes so many bytes.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestExportFails(t *testing.T) {
	s := openSQLite(t)
	fill(t, s, 1000)
	file, _ := export(t, s)
	for _, left := range []int{0, 1 << 16, len(file) - 1} {
		if _, err := transfer.Export(t.Context(), s, storetest.Stream, &broken{left}, nil); !errors.Is(err, errDisk) {
			t.Errorf("after %d bytes: %v", left, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := transfer.Export(ctx, s, storetest.Stream, &bytes.Buffer{}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
