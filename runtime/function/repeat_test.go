package function_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/function"
)

// meddled is a store to which something happens right before an append.
type meddled struct {
	eventstore.Store
	before func()
}

func (m *meddled) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if before := m.before; before != nil {
		m.before = nil
		before()
	}
	return m.Store.Append(ctx, a)
}

// TestTwoRequestsUnderOneID reach two replicas at once. The same one is answered
// what became of it; another one is refused, and not answered as if it were done.
func TestTwoRequestsUnderOneID(t *testing.T) {
	ask := func(s eventstore.Store, decided event) (any, error) {
		door := function.Command("lamps.set", func(context.Context, lamp, toggle) ([]event, error) { return []event{decided}, nil }).(*function.Request)
		p, err := door.Prepare([]byte(`{"id":"l"}`))
		if err != nil {
			t.Fatal(err)
		}
		return p.Answer(function.WithCause(t.Context(), function.Cause{ID: "key"}), function.NewRunner("f", s, nil))
	}
	for name, c := range map[string]struct {
		second event
		want   string
		code   function.Code
	}{
		"the same":        {switched{true}, "{true 2}", 0},
		"another":         {made{}, "", function.CodeConflict},
		"the same, later": {switched{true}, "{true 3}", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			makeLamp(t, s, "l")
			slow := &meddled{Store: s, before: func() {
				if got, err := ask(s, switched{true}); err != nil || fmt.Sprint(got) != "{true 2}" {
					t.Errorf("the first is answered %v, %v", got, err)
				}
				if name == "the same, later" {
					other(t, s, "l")
				}
			}}
			got, err := ask(slow, c.second)
			if no, _ := errors.AsType[*function.Refusal](err); (no != nil) != (c.code != 0) || no != nil && no.Code != c.code {
				t.Fatalf("answered %v, %v", got, err)
			}
			if err == nil && fmt.Sprint(got) != c.want {
				t.Errorf("answered %v, want %s", got, c.want)
			}
		})
	}
}

// TestNoRequestTakesTheIDOfWhatAnEventIsToCause: whoever knows the event's id
// sends a request under it before, to the same function.
func TestNoRequestTakesTheIDOfWhatAnEventIsToCause(t *testing.T) {
	s := open(t)
	run := function.NewRunner("f", s, nil)
	turnOn := func(context.Context, lamp, made) ([]event, error) { return []event{switched{true}}, nil }
	command := function.Command("lamps.set", func(ctx context.Context, l lamp, _ toggle) ([]event, error) { return turnOn(ctx, l, made{}) }).(*function.Request)
	create := function.Create("lamps.make", func(context.Context, lamp, toggle) ([]event, error) { return []event{made{}}, nil }).(*function.Request)
	makeLamp(t, s, "mine")
	first := makeLamp(t, s, "theirs")
	for door, body := range map[*function.Request]string{command: `{"id":"mine"}`, create: fmt.Sprintf(`{"id":%q}`, first.ID)} {
		p, err := door.Prepare([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Answer(function.WithCause(t.Context(), function.Cause{ID: first.ID}), run); err != nil {
			t.Fatal(err)
		}
	}
	on := function.On(turnOn).(*function.Event)
	if err := on.Handle(t.Context(), run, first); err != nil {
		t.Error(err)
	}
	if all := storetest.Consistent(t, t.Context(), s, "LAMPS"); len(all) != 5 {
		t.Errorf("%d events, want 5", len(all))
	}
}

// TestAnEventThatTheStoreLost is refused loudly, and with no effect when it had
// to wait for the store.
func TestAnEventThatTheStoreLost(t *testing.T) {
	whole := open(t)
	first := makeLamp(t, whole, "l")
	for name, ctx := range map[string]context.Context{
		"came with it in hand": t.Context(), "waited for it": function.WithVerify(t.Context()),
	} {
		t.Run(name, func(t *testing.T) {
			effects := 0
			door := function.On(func(context.Context, lamp, made) ([]event, error) {
				effects++
				return []event{switched{true}}, nil
			}).(*function.Event)
			err := door.Handle(ctx, function.NewRunner("f", open(t), nil), first)
			if function.FateOf(err, false) != function.Buried {
				t.Errorf("it ended with %v", err)
			}
			if name == "waited for it" && effects > 0 {
				t.Error("its handler ran")
			}
		})
	}
	run := function.NewRunner("f", whole, nil)
	door := function.On(func(context.Context, lamp, made) ([]event, error) { return []event{switched{true}}, nil }).(*function.Event)
	if err := door.Handle(function.WithVerify(t.Context()), run, first); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}
