package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// office runs the service deadletters, which replays what was crowded out so often.
func (w *world) office(retry time.Duration) {
	w.t.Helper()
	o := deadletter.New(deadletter.Options{
		Store: w.store, Replay: host.Replayer(w.nc), Retry: retry, Logger: slog.New(slog.DiscardHandler),
		Deadlines: map[string]time.Duration{"slow": time.Millisecond},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = o.Run(ctx) })
	h, err := host.Start(o.Function(), host.Options{Conn: w.nc, Store: w.store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.stop(h); cancel(); wg.Wait() })
}

// ask asks the office, and answers the error code that it gave.
func (w *world) ask(subject, body string, answer any) string {
	w.t.Helper()
	m := w.request("deadletters."+subject, body)
	if err := json.Unmarshal(m.Data, answer); err != nil {
		w.t.Fatalf("%s %s: %v: %s", subject, body, err, m.Data)
	}
	return m.Header.Get(micro.ErrorCodeHeader)
}

func (w *world) letters(filter string, want int) []deadletter.Summary {
	w.t.Helper()
	var l deadletter.Listed
	if code := w.ask("list", filter, &l); code != "" || len(l.Letters) != want {
		w.t.Fatalf("%s lists %d letters, want %d: %s %+v", filter, len(l.Letters), want, code, l)
	}
	return l.Letters
}

// TestReplay has one letter fail again, be edited, and be handled, by its
// function alone and once, whoever asks how often.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	w.office(0)
	var calls, others, works atomic.Int32
	seen := make(chan string, 100)
	picky := step("picky", func(_ context.Context, c counter, e opened) ([]event, error) {
		calls.Add(1)
		seen <- c.ID + "/" + e.ID
		if e.ID != "good" && works.Load() == 0 {
			return nil, function.Reject("%s is not good", e.ID)
		}
		return countOnce(t.Context(), c, e)
	})
	w.start(picky)
	w.start(picky) // a second replica
	w.start(function.Function{Name: "other", Doors: []function.Door{function.On(func(context.Context, counter, opened) ([]event, error) {
		others.Add(1)
		return nil, nil
	})}})
	w.append(3)
	w.buried(3)
	w.eventually("be handled by the other", func() error {
		if n := others.Load(); n != 3 {
			return fmt.Errorf("%d of 3", n)
		}
		return nil
	})
	letters := w.letters(`{"function":"picky","reason":"rejected","stream":"COUNTERS"}`, 3)
	w.letters(`{"function":"other"}`, 0)
	w.letters(`{"status":"failed"}`, 0)
	first := letters[slices.IndexFunc(letters, func(l deadletter.Summary) bool { return l.Position == 1 })]
	if first.Status != deadletter.StatusBuried || first.Function != "picky" || first.Subject != "COUNTERS.opened" {
		t.Fatalf("%+v", first)
	}

	var replayed deadletter.Summary
	if code := w.ask("replay", `{"id":"`+first.ID+`","by":"ann"}`, &replayed); code != "" || replayed.Status != deadletter.StatusFailed {
		t.Fatalf("%s %+v", code, replayed)
	}
	var s deadletter.State
	if code := w.ask("edit", `{"id":"`+first.ID[:8]+`","data":{"ID":"good"},"by":"ann","reason":"typo","version":2}`, &s); code != "" || s.Status != deadletter.StatusEdited {
		t.Fatalf("%s %+v", code, s)
	}
	if code := w.ask("edit", `{"id":"`+first.ID+`","data":{},"version":2}`, &s); code != "409" {
		t.Fatalf("edited what another had changed: %s", code)
	}
	for len(seen) > 0 {
		<-seen
	}
	var wg sync.WaitGroup
	for range 4 { // at once
		wg.Go(func() {
			m, err := w.nc.Request("deadletters.replay", []byte(`{"id":"`+first.ID+`"}`), 10*time.Second)
			if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "" {
				t.Errorf("%v %+v", err, m)
			}
		})
	}
	wg.Wait()
	if got := <-seen; got != "c0/good" {
		t.Errorf("it decided on %s", got) // the stored state, and the new data
	}
	if code := w.ask("show", `{"id":"`+first.ID+`"}`, &s); code != "" || s.Status != deadletter.StatusReplayed || s.Replays != 2 || len(s.History) != 4 || s.History[1].Error == "" || s.History[1].By != "ann" {
		t.Fatalf("%s %+v", code, s)
	}
	if string(s.Letter.Data) != `{"ID":"c0"}` || string(s.Edited) != `{"ID":"good"}` {
		t.Errorf("letter %s, edited %s", s.Letter.Data, s.Edited)
	}
	if n := w.count("COUNTERS", "counted"); n != 1 {
		t.Errorf("counted %d times", n)
	}
	w.causedBy(first)

	works.Store(1)
	for _, l := range w.letters(`{"function":"picky"}`, 2) {
		if code := w.ask("replay", `{"id":"`+l.ID+`"}`, &replayed); code != "" || replayed.ID != l.ID || replayed.Status != deadletter.StatusReplayed {
			t.Fatalf("%s %+v", code, replayed)
		}
	}
	w.letters(``, 0)
	w.letters(`{"status":"replayed","function":"picky"}`, 3)
	if n := w.count("COUNTERS", "counted"); n != 3 || others.Load() != 3 {
		t.Errorf("counted %d; the other function was called %d times", n, others.Load())
	}
	if n := w.count(deadletter.Stream, deadletter.TypeBuried); n != 3 {
		t.Errorf("%d were buried", n)
	}
}

// causedBy checks that what a replay led to hangs on the message that was buried.
func (w *world) causedBy(l deadletter.Summary) {
	w.t.Helper()
	events, err := eventstore.Collect(w.store.ReadAggregate(w.t.Context(), eventstore.AggregateRead{Stream: "COUNTERS", Aggregate: "c0"}))
	if err != nil || len(events) != 2 || events[1].CausationID != l.EventID || events[1].CausationID != events[0].ID || string(events[0].Data) != `{"ID":"c0"}` {
		w.t.Errorf("%+v, %v", events, err)
	}
}

// TestReplayOfAProjection replays an event to a projection, and what was never
// in a stream of the store to nobody.
func TestReplayOfAProjection(t *testing.T) {
	w := newWorld(t)
	w.office(0)
	var works atomic.Bool
	view := w.start(function.Function{Name: "view", Doors: []function.Door{
		function.Project("COUNTERS", func(context.Context, function.Log, []function.Message) error {
			if works.Load() {
				return nil
			}
			return function.Reject("no")
		}),
	}})
	w.append(2)
	w.buried(2)
	works.Store(true)
	letters := w.letters(`{"limit":2}`, 2)
	var replayed deadletter.Summary
	if code := w.ask("replay", `{"id":"`+letters[0].ID+`"}`, &replayed); code != "" || replayed.Status != deadletter.StatusReplayed {
		t.Fatalf("%s %+v", code, replayed)
	}
	w.stop(view)
	var no struct{ Error, Field string }
	if code := w.ask("replay", `{"id":"`+letters[1].ID+`"}`, &no); code != "503" || no.Error != "no replica of view runs; start one, and replay again" {
		t.Errorf("%s %+v", code, no)
	}
	letter := deadletter.Letter{Function: "view", Stream: "COUNTERS", Subject: "COUNTERS.opened", Position: 99, Data: []byte(`{}`)}
	if err := deadletter.Bury(t.Context(), w.store, letter); err != nil {
		t.Fatal(err)
	}
	id := letter.ID()
	for _, c := range []struct{ subject, body, code, field string }{
		{"replay", `{"id":"` + id + `"}`, "409", "id"}, // it has no envelope
		{"replay", `{}`, "400", "id"},
		{"replay", `{"id":"` + id + `","function":"view"}`, "400", "function"},
		{"list", `{"status":"lost"}`, "400", "status"},
		{"list", `{"reason":"lost"}`, "400", "reason"},
		{"list", `{"since":"yesterday"}`, "400", "since"},
		{"list", `{"cursor":"x"}`, "400", "cursor"},
		{"list", `{"limit":0}`, "400", "limit"},
		{"show", `{}`, "400", "id"},
		{"show", `{"id":"` + id[:7] + `"}`, "400", "id"},
		{"show", `{"id":"00000000"}`, "404", "id"},
		{"show", `{"id":"00000000-0000-0000-0000-000000000000"}`, "404", "id"},
		{"edit", `{"id":"` + id + `"}`, "400", "data"},
		{"drop", `{"id":"` + id + `"}`, "400", "reason"},
		{"drop", `{"id":"` + letters[0].ID + `","reason":"x"}`, "409", "id"}, // replayed
	} {
		if code := w.ask(c.subject, c.body, &no); code != c.code || no.Field != c.field {
			t.Errorf("%s %s: %s %+v", c.subject, c.body, code, no)
		}
	}
	var s deadletter.Summary
	for range 2 {
		if code := w.ask("drop", `{"id":"`+id+`","by":"ann","reason":"a stray one"}`, &s); code != "" || s.Status != deadletter.StatusDropped {
			t.Fatalf("%s %+v", code, s)
		}
	}
	if code := w.ask("replay", `{"id":"`+id+`"}`, &no); code != "409" {
		t.Errorf("replayed what was dropped: %s", code)
	}
	w.letters(`{"status":"dropped"}`, 1)
	if n := w.count(deadletter.Stream, deadletter.TypeDropped); n != 1 {
		t.Errorf("dropped %d times", n)
	}
}

// TestReplayThatEndsUnknown has a function whose store is away, and then one that
// does not answer in time.
func TestReplayThatEndsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.office(0)
	var away, hangs atomic.Bool
	release := make(chan struct{})
	defer close(release)
	w.start(step("slow", func(context.Context, counter, opened) ([]event, error) {
		switch {
		case hangs.Load():
			<-release
			return nil, nil
		case away.Load():
			return nil, function.ErrUnavailable
		}
		return nil, function.Reject("no")
	}))
	w.append(1)
	w.buried(1)
	id := w.letters(``, 1)[0].ID
	var no struct{ Error string }
	away.Store(true)
	if code := w.ask("replay", `{"id":"`+id+`"}`, &no); code != "503" {
		t.Errorf("%s %+v", code, no)
	}
	w.letters(`{"status":"buried"}`, 1) // what was not tried is not recorded
	hangs.Store(true)
	var replayed deadletter.Summary
	if code := w.ask("replay", `{"id":"`+id+`"}`, &replayed); code != "" || replayed.Status != deadletter.StatusFailed || !strings.Contains(replayed.Error, "no answer from slow") {
		t.Errorf("%s %+v", code, replayed)
	}
}

// TestDeadLettersSurvive buries, loses all of JetStream, and finds them again in
// an office that starts then.
func TestDeadLettersSurvive(t *testing.T) {
	w := newWorld(t)
	var works atomic.Bool
	f := step("picky", func(ctx context.Context, c counter, e opened) ([]event, error) {
		if !works.Load() {
			return nil, errors.New("no")
		}
		return countOnce(ctx, c, e)
	})
	f.Attempts = 2
	w.start(f)
	w.append(5)
	w.buried(5)
	w.server.Stop()
	w.server.Wipe()
	works.Store(true)
	w.server.Restart()
	w.eventually("connect", func() error {
		if !w.nc.IsConnected() {
			return errors.New("not yet")
		}
		return nil
	})
	w.office(0)
	letters := w.letters(`{"reason":"attempts"}`, 5)
	var replayed deadletter.Summary
	for _, l := range letters {
		if code := w.ask("replay", `{"id":"`+l.ID+`"}`, &replayed); code != "" || replayed.Status != deadletter.StatusReplayed {
			t.Errorf("%s %+v", code, replayed)
		}
	}
	w.letters(``, 0)
	if n := w.count("COUNTERS", "counted"); n != 5 {
		t.Errorf("%d counted", n)
	}
	storetest.Consistent(t, t.Context(), w.store, deadletter.Stream)
}

// TestAnEditIsRepeated under its Nats-Msg-Id: it changes nothing twice.
func TestAnEditIsRepeated(t *testing.T) {
	w := newWorld(t)
	w.office(0)
	w.start(step("picky", func(context.Context, counter, opened) ([]event, error) { return nil, function.Reject("no") }))
	w.append(1)
	w.buried(1)
	l := w.letters(`{}`, 1)[0]
	var first []byte
	for range 2 {
		m := &nats.Msg{Subject: "deadletters.edit", Data: []byte(`{"id":"` + l.ID + `","data":{},"by":"ann"}`), Header: nats.Header{nats.MsgIdHdr: {"once"}}}
		reply, err := w.nc.RequestMsg(m, 5*time.Second)
		if err != nil || reply.Header.Get(micro.ErrorCodeHeader) != "" {
			t.Fatal(reply, err)
		}
		if first == nil {
			first = reply.Data
		}
		if string(first) != string(reply.Data) {
			t.Errorf("answered %s, and then %s", first, reply.Data)
		}
	}
	if n := w.count(deadletter.Stream, deadletter.TypeEdited); n != 1 {
		t.Errorf("edited %d times", n)
	}
}

// TestReplayWithoutADoor refuses a letter of a type that the function's release
// has no door for: nothing would be done, and the letter be resolved.
func TestReplayWithoutADoor(t *testing.T) {
	w := newWorld(t)
	w.office(0)
	w.start(step("picky", countOnce))
	w.other("c0")
	e := storetest.Consistent(t, t.Context(), w.store, "COUNTERS")[0]
	letter := deadletter.Letter{Function: "picky", Stream: e.Stream, Subject: "COUNTERS.other", Position: e.Position, EventID: e.ID, Data: e.Data}
	if err := deadletter.Bury(t.Context(), w.store, letter); err != nil {
		t.Fatal(err)
	}
	var no struct{ Error string }
	w.eventually("be refused", func() error {
		if code := w.ask("replay", `{"id":"`+letter.ID()+`"}`, &no); code != "409" || !strings.Contains(no.Error, "has no door") {
			return fmt.Errorf("%s %+v", code, no)
		}
		return nil
	})
	w.letters(`{"status":"buried"}`, 1)
}
