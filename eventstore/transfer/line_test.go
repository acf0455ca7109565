package transfer

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybill-go/waybill/eventstore"
)

// TestChecksum holds the checksum, computed here by other means:
//
//	printf '\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1a\0\0\0\0\0\0\0\2{}' | sha256sum
func TestChecksum(t *testing.T) {
	sum := newChecksum()
	sum.add(&eventstore.Event{Position: 1, ID: "a", Data: json.RawMessage(`{}`)})
	const want = "sha256:9a858c23c61e9c8799ec38d7ae54a31a31bba92d1f9acd40d2d4de034fc00ab5"
	if got := sum.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzData has the data of an event come back from a line as they were.
func FuzzData(f *testing.F) {
	for _, data := range []string{`{}`, `null`, " 1 ", "{\r\n\"<\u2028&>\":\t\"\\u003c\"}", "\"\x7f\u00a0\""} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) || !utf8.Valid(data) {
			return // nobody can have stored it
		}
		e := eventstore.Event{
			Stream: "ORDERS", Position: 1, Aggregate: "a", Version: 1, ID: "x", Type: "happened",
			Time: time.Unix(0, 0).UTC(), Schema: 1, Data: data,
		}
		var file bytes.Buffer
		w := newWriter(&file)
		if err := w.writeEvent(e); err != nil {
			t.Fatal(err)
		}
		if err := w.to.Flush(); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(file.Bytes(), []byte("\n")); n != 1 {
			t.Fatalf("%d lines: %q", n, file.Bytes())
		}
		got, err := newReader(&file).event("ORDERS", 1)
		if err != nil || !bytes.Equal(got.Data, data) {
			t.Fatalf("%q came back as %q, %v", data, got.Data, err)
		}
	})
}

// FuzzFile reads files: what is taken is what a store may hold.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"waybill_export":1,"stream":"ORDERS","head":1,"durables":[{"name":"a","config":{},"floor":1}]}
{"stream":"ORDERS","position":1,"aggregate":"a","version":1,"id":"a","type":"happened","time":"2026-01-02T03:04:05.678901Z","schema":1,"data":{}}
{"events":1,"checksum":"sha256:9a858c23c61e9c8799ec38d7ae54a31a31bba92d1f9acd40d2d4de034fc00ab5"}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		r := newReader(bytes.NewReader(file))
		h, err := r.header()
		if err != nil {
			return
		}
		for position := uint64(1); position <= h.Head; position++ {
			e, err := r.event(h.Stream, position)
			if err != nil {
				return
			}
			if err := eventstore.CheckStored(e); err != nil || e.Position != position || e.Stream != h.Stream {
				t.Fatalf("took %+v: %v", e, err)
			}
		}
	})
}
