package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/runtime/function"
)

// functions answer replays as a test says, and remember which they had.
type functions struct {
	t      *testing.T
	office *Office
	answer func(ctx context.Context, name string, position uint64) (Outcome, error)

	mu    sync.Mutex
	tried map[uint64]int // replays, by the message's position
}

// retrying runs an office on letters that were crowded out, so many of each
// function; the positions of a function's letters are 1, 2, ... It is for a
// bubble of synctest.
func retrying(t *testing.T, letters map[string]int, answer func(ctx context.Context, name string, position uint64) (Outcome, error)) *functions {
	t.Helper()
	f := &functions{t: t, answer: answer, tried: map[uint64]int{}}
	store := memory.New()
	for name, n := range letters {
		for i := range n {
			l := Letter{
				Function: name, Reason: ReasonCrowded, Stream: "ORDERS", Subject: "ORDERS.created", Position: uint64(i) + 1, Data: []byte("{}"),
				Header: map[string][]string{
					"ce-specversion": {"1.0"}, "ce-id": {fmt.Sprint("e", i)}, "ce-type": {"created"}, "ce-source": {"test"},
					"ce-subject": {fmt.Sprint("o", i)}, "ce-time": {"2026-01-02T03:04:05Z"}, "ce-version": {"1"}, "ce-schema": {"1"},
				},
			}
			if err := Bury(t.Context(), store, l); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.office = New(Options{Store: store, Replay: f.replay, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.office.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); _ = store.Close() })
	synctest.Wait()
	return f
}

func (f *functions) replay(ctx context.Context, name string, r Replay) (Outcome, error) {
	f.mu.Lock()
	f.tried[r.Event.Position]++
	f.mu.Unlock()
	return f.answer(ctx, name, r.Event.Position)
}

// rounds lets so many pass, and answers how often each position was tried in them.
func (f *functions) rounds(n int) map[uint64]int {
	f.t.Helper()
	time.Sleep(time.Duration(n) * f.office.opts.Retry)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	tried := f.tried
	f.tried = map[uint64]int{}
	return tried
}

// hasUnresolved holds how many letters of a function are unresolved.
func (f *functions) hasUnresolved(name string, n int) {
	f.t.Helper()
	if got := f.office.Unresolved()[name]; got != n {
		f.t.Errorf("%d letters of %s are unresolved, want %d", got, name, n)
	}
}

var errAway = &function.Refusal{Code: function.CodeUnavailable, Reason: "the bank is away"}

// TestRefusedLettersStopNoOthers: more of the oldest letters than are refused in a
// row always are; those behind them are replayed, and the refused ones are left
// to people in the end.
func TestRefusedLettersStopNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const refused, all = 4, 10
		f := retrying(t, map[string]int{"payment": all}, func(_ context.Context, _ string, position uint64) (Outcome, error) {
			if position <= refused {
				return Outcome{}, errAway
			}
			return Outcome{}, nil
		})
		if tried := f.rounds(1); !maps.Equal(tried, map[uint64]int{1: 1, 2: 1, 3: 1}) {
			t.Errorf("the first time %v were tried", tried)
		}
		if tried := f.rounds(1); tried[1] != 0 || tried[refused] != 1 || tried[all] != 1 {
			t.Errorf("then %v were tried", tried)
		}
		f.hasUnresolved("payment", refused)
		f.rounds(maxRetries * maxRefusals * refused)
		if tried := f.rounds(10); len(tried) > 0 {
			t.Errorf("after all %v are still tried", tried)
		}
		failed, _ := f.office.index.list(filter{status: StatusFailed}, 0, 100)
		if len(failed) != refused {
			t.Fatalf("%d are left to people, want %d", len(failed), refused)
		}
		for _, s := range failed {
			if want := "not handled, 100 times: the bank is away"; s.Replays != maxRetries || s.Error != want {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestAFunctionThatIsAwayIsLeftAlone after one letter or a few, and all of them
// are replayed when it is back.
func TestAFunctionThatIsAwayIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		each int // letters that are tried in a round
	}{
		"not running":       {ErrNotRunning, 1},
		"unavailable":       {errAway, refusalsInARow},
		"overloaded":        {&function.Refusal{Code: function.CodeOverloaded, Reason: "too much"}, refusalsInARow},
		"nobody can say so": {errors.New("connection closed"), refusalsInARow},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const all, rounds = 20, 6
				var back atomic.Bool
				f := retrying(t, map[string]int{"payment": all}, func(context.Context, string, uint64) (Outcome, error) {
					if !back.Load() {
						return Outcome{}, c.err
					}
					return Outcome{}, nil
				})
				if tried := f.rounds(rounds); len(tried) != c.each*rounds {
					t.Errorf("in %d rounds %v were tried", rounds, tried)
				}
				f.hasUnresolved("payment", all)
				back.Store(true)
				f.rounds(2)
				f.hasUnresolved("payment", 0)
			})
		})
	}
}

// TestASlowFunctionDelaysNoOther: it answers nothing, so each of its letters takes
// as long as a replay may; those of others are replayed meanwhile.
func TestASlowFunctionDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const letters = 50
		f := retrying(t, map[string]int{"slow": letters, "quick": letters}, func(ctx context.Context, name string, _ uint64) (Outcome, error) {
			if name == "slow" {
				<-ctx.Done()
				return Outcome{}, ctx.Err()
			}
			return Outcome{}, nil
		})
		f.rounds(1)
		f.hasUnresolved("quick", 0)
		f.hasUnresolved("slow", letters)
		time.Sleep(maxRetries * letters * (ReplayTimeout(0) + f.office.opts.Retry))
		f.rounds(1) // forgets those
		if tried := f.rounds(10); len(tried) > 0 {
			t.Errorf("what was never answered is still tried: %v", tried)
		}
	})
}
