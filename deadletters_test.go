package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/runtime/deadletter"
)

// TestDeadLetters has functions give up on an event. What each is handed
// again is edited for one of them, and dropped for the other.
func TestDeadLetters(t *testing.T) {
	s := newSystem(t)
	up := s.start("up").ready()
	nc := s.connect()
	for _, v := range s.env {
		if address, ok := strings.CutPrefix(v, "GRPC_LISTEN="); ok {
			appendNonsense(t, dial(t, address))
		}
	}
	deadletters := func(args string, want int) string {
		t.Helper()
		code, out := s.command("deadletters "+args, "EDITOR="+editor(t))
		if code != want {
			t.Fatalf("%s ended with %d: %s", args, code, out)
		}
		return out
	}
	letters := map[string]deadletter.Summary{}
	list := func(args string, want int) {
		t.Helper()
		eventually(t, "list", func() error {
			var all []deadletter.Summary
			if out := deadletters("ls --json "+args, 0); json.Unmarshal([]byte(out), &all) != nil || len(all) != want {
				return errors.New(out)
			}
			for _, l := range all {
				letters[l.Function] = l
			}
			return nil
		})
	}
	counted := func(want string) {
		t.Helper()
		eventually(t, "count", func() error {
			_, out := s.command("ls --json")
			var lines []struct {
				Name        string
				DeadLetters *int `json:"dead_letters"`
			}
			if err := json.Unmarshal([]byte(out), &lines); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			var got []string
			for _, l := range lines {
				if l.DeadLetters != nil {
					got = append(got, fmt.Sprintf("%s:%d", l.Name, *l.DeadLetters))
				}
			}
			if got := strings.Join(got, " "); got != want {
				return fmt.Errorf("ls counts %s, want %s", got, want)
			}
			return nil
		})
	}
	list("", 3)
	counted("orderview:1 payment:1 review:0 saga:1 shipping:0")
	deadletters("drop --reason nonsense "+letters["saga"].ID, 0)
	list("--function payment --reason decode --since 1h", 1)
	payment, view := letters["payment"].ID, letters["orderview"].ID
	for _, says := range []string{payment, "ORDERS.created, position 1", "decode", "[\n  \"odd\"\n]"} {
		if out := deadletters("show "+payment[:8], 0); !strings.Contains(out, says) {
			t.Errorf("show does not say %s: %s", says, out)
		}
	}
	if out := deadletters("replay --all --function payment --reason rejected", 0); out != "" {
		t.Errorf("replay of others: %s", out)
	}
	if out := deadletters("replay --all --function payment --reason decode", 1); !strings.Contains(out, "failed again") || !strings.Contains(out, "1 of 1") {
		t.Errorf("replay: %s", out)
	}
	deadletters("edit "+view, 0) // the editor writes a whole order
	if out := deadletters("replay "+view, 0); !strings.Contains(out, "replayed") {
		t.Errorf("replay: %s", out)
	}
	get(t, nc, "odd", "Pending")
	counted("orderview:0 payment:1 review:0 saga:0 shipping:0")
	list("--status failed", 1)
	list("--status replayed", 1)

	_ = up.cmd.Process.Signal(os.Interrupt)
	up.ended()
	if err := os.RemoveAll(filepath.Join(s.dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	s.start("up").ready()
	list("", 1)
	if out := deadletters("drop "+payment+" --by ann --reason nonsense", 0); !strings.Contains(out, "dropped") {
		t.Errorf("drop: %s", out)
	}
	if out := deadletters("show "+payment, 0); !strings.Contains(out, "dropped by ann") || !strings.Contains(out, "replayed by ") {
		t.Errorf("show: %s", out)
	}
	list("", 0)
	counted("orderview:0 payment:0 review:0 saga:0 shipping:0")
}

// editor is a program that writes a whole order into the file that it is given.
func editor(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "editor")
	script := "#!/bin/sh\necho '" + `{"order_id":"odd","customer_id":"c","restaurant_id":"r","created_on":"2026-01-02T03:04:05Z","currency":"USD","amount":2,"order_items":[{"code":"a","name":"A","unit_price":1,"quantity":2}]}` + "' > \"$1\"\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
