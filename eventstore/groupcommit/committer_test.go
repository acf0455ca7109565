package groupcommit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/eventstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate is a commit function that waits to be let through, batch by batch.
type gate struct {
	let     chan error
	batches [][]string
	data    []string
}

func (g *gate) commit(batch []Request) []Outcome {
	err := <-g.let
	var names []string
	for _, r := range batch {
		names = append(names, r.Aggregate)
		g.data = append(g.data, string(r.Events[0].Data))
	}
	g.batches = append(g.batches, names)
	if err != nil {
		return Failed(len(batch), err)
	}
	return Plan(batch, Facts{}, Planned{}).Outcomes
}

func toAppend(aggregate, id string) eventstore.Append {
	return eventstore.Append{Stream: "ORDERS", Aggregate: aggregate, Expected: eventstore.Any, Events: []eventstore.Event{
		{ID: id, Type: "happened", Data: json.RawMessage(`{}`)},
	}}
}

// asked is an append under way.
type asked struct {
	cancel context.CancelFunc
	done   chan struct{}
	answer eventstore.Appended
	err    error
}

// ask appends to an aggregate, and returns when the append is queued or taken.
func ask(t *testing.T, c *Committer, a eventstore.Append) *asked {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &asked{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer cancel()
		w.answer, w.err = c.Append(ctx, a)
	}()
	synctest.Wait()
	return w
}

func (w *asked) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// bubble runs a test of a committer whose commits wait.
func bubble(t *testing.T, limits Limits, test func(t *testing.T, c *Committer, g *gate)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{let: make(chan error)}
		c := New(g.commit, limits)
		test(t, c, g)
		close(g.let)
		c.Close()
	})
}

func TestWhatCameMeanwhileIsOneGroup(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, c *Committer, g *gate) {
		var all []*asked
		for _, name := range []string{"a", "b", "c", "d"} {
			all = append(all, ask(t, c, toAppend(name, name)))
		}
		if s := c.Stats(); s != (Stats{Commits: 1, Appends: 1, Queued: 3, QueuedBytes: s.QueuedBytes}) || s.QueuedBytes == 0 {
			t.Errorf("while the first is committed: %+v", s)
		}
		g.let <- nil
		g.let <- nil
		synctest.Wait()
		if s := c.Stats(); s != (Stats{Commits: 2, Appends: 4}) || s.Plus(s).Appends != 8 {
			t.Errorf("when all are: %+v", s)
		}
		for _, w := range all {
			if !w.ended() || w.err != nil || w.answer.Version() != 1 {
				t.Errorf("answer %+v, %v", w.answer, w.err)
			}
		}
		if got := fmt.Sprint(g.batches); got != "[[a] [b c d]]" {
			t.Errorf("batches %s", got)
		}
	})
}

// TestWhyNothingIsStored is told while a commit takes long, and after it failed;
// an append that was refused for what it is tells nothing.
func TestWhyNothingIsStored(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, c *Committer, g *gate) {
		is := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := c.Stats().Problem; got != want {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		is("at first", "")
		ask(t, c, toAppend("a", "a"))
		time.Sleep(longCommit / 2)
		is("soon", "")
		time.Sleep(longCommit)
		is("under way", "a commit takes 3s already")
		g.let <- fmt.Errorf("%w: disk full\nreally", eventstore.ErrUnavailable)
		is("failed", "a commit failed 0s ago: not available now: disk full")
		time.Sleep(toldFor)
		is("long ago", "")
		ask(t, c, toAppend("b", "b"))
		g.let <- eventstore.ErrUnavailable
		ask(t, c, toAppend("c", "c"))
		g.let <- errors.New("a conflict")
		is("answered", "")
	})
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	size := 0
	for _, e := range toAppend("a", "1").Stamp(time.Time{}) {
		size += e.Size()
	}
	for name, limits := range map[string]Limits{"appends": {Queued: 2}, "bytes": {QueuedBytes: 2*size + 1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, limits, func(t *testing.T, c *Committer, g *gate) {
				taken := ask(t, c, toAppend("a", "1"))
				second, third := ask(t, c, toAppend("b", "2")), ask(t, c, toAppend("c", "3"))
				refused := ask(t, c, toAppend("d", "4"))
				if !refused.ended() || !errors.Is(refused.err, eventstore.ErrOverloaded) {
					t.Fatalf("the fourth: %v", refused.err)
				}
				// Who gives up makes room at once.
				third.cancel()
				synctest.Wait()
				fifth := ask(t, c, toAppend("e", "5"))
				g.let <- nil
				g.let <- nil
				synctest.Wait()
				for _, w := range []*asked{taken, second, fifth} {
					if !w.ended() || w.err != nil {
						t.Error(w.err)
					}
				}
				if got := fmt.Sprint(g.batches); got != "[[a] [b e]]" {
					t.Errorf("batches %s", got)
				}
			})
		})
	}
}

func TestContextEnds(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, c *Committer, g *gate) {
		taken, queued := ask(t, c, toAppend("a", "1")), ask(t, c, toAppend("b", "2"))
		taken.cancel()
		queued.cancel()
		synctest.Wait()
		for _, w := range []*asked{taken, queued} {
			if !w.ended() || !errors.Is(w.err, context.Canceled) {
				t.Fatalf("after its context ended: %v", w.err)
			}
		}
		if c.queue.len != 0 || c.queue.bytes != 0 {
			t.Fatalf("%d appends, %d bytes are queued", c.queue.len, c.queue.bytes)
		}
		g.let <- nil // nobody waits for it any more
		last := ask(t, c, toAppend("c", "3"))
		g.let <- nil
		<-last.done
		if got := fmt.Sprint(g.batches); got != "[[a] [c]]" {
			t.Errorf("batches %s", got)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Append(ended, toAppend("d", "4")); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

func TestCloseFinishesWhatIsQueued(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, c *Committer, g *gate) {
		all := []*asked{ask(t, c, toAppend("a", "1")), ask(t, c, toAppend("a", "2")), ask(t, c, toAppend("a", "3"))}
		closed := make(chan struct{})
		go func() { c.Close(); close(closed) }()
		synctest.Wait()
		if late := ask(t, c, toAppend("b", "4")); !late.ended() || !errors.Is(late.err, eventstore.ErrUnavailable) {
			t.Errorf("after Close: %v", late.err)
		}
		for range all {
			g.let <- nil
		}
		<-closed
		for _, w := range all {
			if <-w.done; w.err != nil {
				t.Error(w.err)
			}
		}
	})
}

func TestWhatTheCommitAnswers(t *testing.T) {
	cause := errors.New("no space left")
	for _, c := range []struct {
		name   string
		commit Commit
		check  func(error) bool
	}{
		{"an error", func(batch []Request) []Outcome { return Failed(len(batch), cause) }, func(err error) bool { return errors.Is(err, cause) }},
		{"a panic", func([]Request) []Outcome { panic("broken") }, func(err error) bool {
			var p *PanicError
			return errors.As(err, &p) && p.Value == "broken" && len(p.Stack) > 0 && errors.Is(err, eventstore.ErrUnavailable)
		}},
		{"too few outcomes", func([]Request) []Outcome { return nil }, func(err error) bool { return errors.Is(err, eventstore.ErrUnavailable) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			committer := New(c.commit, Limits{})
			defer committer.Close()
			for i := range 3 { // it goes on
				if _, err := committer.Append(t.Context(), toAppend("a", fmt.Sprint(i))); !c.check(err) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestInvalidIsNeverQueued(t *testing.T) {
	c := New(func([]Request) []Outcome { panic("queued") }, Limits{})
	defer c.Close()
	var invalid *eventstore.InvalidError
	if _, err := c.Append(t.Context(), toAppend("not an id", "1")); !errors.As(err, &invalid) {
		t.Error(err)
	}
}

func TestBuffersMayBeUsedAgain(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, c *Committer, g *gate) {
		a := toAppend("a", "1")
		w := ask(t, c, a)
		w.cancel()
		<-w.done
		copy(a.Events[0].Data, "!!")
		g.let <- nil
		synctest.Wait()
		if !slices.Equal(g.data, []string{"{}"}) {
			t.Errorf("committed %q", g.data)
		}
	})
}

// TestOrder has many callers, some of whom give up, and checks that no batch has
// an aggregate or id twice, and that a caller's appends keep their order.
func TestOrder(t *testing.T) {
	last := map[int]int{} // by caller
	c := New(func(batch []Request) []Outcome {
		seen := map[string]bool{}
		for _, r := range batch {
			id := r.Events[0].ID
			if seen["a "+r.Aggregate] || seen[id] {
				t.Errorf("%s or %s is in a batch twice", r.Aggregate, id)
			}
			seen["a "+r.Aggregate], seen[id] = true, true
			var caller, n int
			if _, err := fmt.Sscanf(r.Events[0].Type, "c%dn%d", &caller, &n); err != nil {
				t.Error(err)
			}
			if n <= last[caller] {
				t.Errorf("caller %d: append %d after %d", caller, n, last[caller])
			}
			last[caller] = n
		}
		return make([]Outcome, len(batch))
	}, Limits{Batch: 8})
	var wg sync.WaitGroup
	for caller := range 32 {
		wg.Go(func() {
			for n := 1; n <= 50; n++ {
				a := toAppend(fmt.Sprintf("a%d", (caller+n)%5), fmt.Sprintf("i%d", n%7))
				a.Events[0].Type = fmt.Sprintf("c%dn%d", caller, n)
				ctx, cancel := context.WithCancel(t.Context())
				if n%10 == 9 {
					go cancel()
				}
				_, err := c.Append(ctx, a)
				cancel()
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c.Close()
	if len(last) != 32 {
		t.Errorf("%d callers were heard, want 32", len(last))
	}
}
