package hosttest_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest/hosttest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// TestSystem has events that come from elsewhere, one of which is refused.
func TestSystem(t *testing.T) {
	s := hosttest.Start(t, light)
	s.Append("LAMPS", "l1", made{"l1"})
	s.Append("LAMPS", "broken", made{"broken"})
	s.Await("LAMPS", "l1", "made", "lit")
	s.Eventually("the other one is a dead letter", func() error {
		if head, err := s.Store.Head(t.Context(), deadletter.Stream); err != nil || head != 1 {
			return errors.Join(err, errors.New("there is none"))
		}
		return nil
	})
	if events := s.Events("LAMPS", "l1"); events[1].CausationID != events[0].ID || events[1].Source != "light" {
		t.Errorf("lit by %+v", events[1])
	}
	if strings.Contains(s.Conn.ConnectedUrl(), ":4222") {
		t.Error("it is on a port that others use")
	}
}

// dusk lights lamps that nobody has lit.
type dusk struct{}

func (dusk) Due(l lamp) time.Time {
	if l.Lit {
		return time.Time{}
	}
	return time.Unix(0, 0)
}
func (dusk) Waiting(context.Context) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}
func (dusk) Fire(context.Context, lamp) ([]event, error) { return []event{lit{}}, nil }

func TestSystemWithATimer(t *testing.T) {
	s := hosttest.Start(t, function.Function{Name: "dusk", Doors: []function.Door{function.Timer(dusk{})}})
	s.Append("LAMPS", "l1", made{"l1"})
	if e := s.Await("LAMPS", "l1", "made", "lit")[1]; e.Source != "dusk" || e.CorrelationID != "l1" {
		t.Errorf("lit by %+v", e)
	}
}
