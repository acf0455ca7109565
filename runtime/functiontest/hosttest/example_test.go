package hosttest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest/hosttest"
)

// A domain: lamps that are made, and then lit.
type (
	lamp struct {
		ID  string `json:"id"`
		Lit bool   `json:"lit"`
	}
	event interface{ EventType() string }
	made  struct {
		ID string `json:"id"`
	}
	lit struct{}
)

func (made) EventType() string { return "made" }
func (lit) EventType() string  { return "lit" }
func (lamp) Stream() string    { return "LAMPS" }

func (lamp) Decode(typ string, _ int, data []byte) (event, error) {
	if typ == "lit" {
		return lit{}, nil
	}
	var e made
	err := json.Unmarshal(data, &e)
	return e, err
}

func (l lamp) Evolve(e event) lamp {
	switch e := e.(type) {
	case made:
		l.ID = e.ID
	case lit:
		l.Lit = true
	}
	return l
}

type request made

func (r request) AggregateID() string { return r.ID }

// The functions under test.
var (
	produce = function.Function{Name: "produce", Doors: []function.Door{
		function.Create("lamps.make", func(_ context.Context, l lamp, r request) ([]event, error) {
			if l.ID != "" {
				return nil, nil
			}
			return []event{made(r)}, nil
		}),
	}}
	light = function.Function{Name: "light", Doors: []function.Door{
		function.On(func(_ context.Context, l lamp, _ made) ([]event, error) {
			switch {
			case l.ID == "broken":
				return nil, function.Reject("it is broken")
			case l.Lit:
				return nil, nil
			}
			return []event{lit{}}, nil
		}),
	}}
)

// printed stands for a test's *testing.T, which an example does not have.
type printed struct {
	testing.TB
	cleanup []func()
}

func (*printed) Helper()                     {}
func (*printed) Context() context.Context    { return context.Background() }
func (*printed) Output() io.Writer           { return os.Stderr }
func (*printed) Errorf(s string, a ...any)   { fmt.Printf(s+"\n", a...) }
func (p *printed) Fatalf(s string, a ...any) { p.Errorf(s, a...); panic("the test ends") }
func (p *printed) Fatal(a ...any)            { p.Fatalf("%s", fmt.Sprint(a...)) }
func (p *printed) Cleanup(f func())          { p.cleanup = append(p.cleanup, f) }

func (p *printed) TempDir() string {
	dir, err := os.MkdirTemp("", "hosttest")
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (p *printed) end() {
	for i := len(p.cleanup) - 1; i >= 0; i-- {
		p.cleanup[i]()
	}
}

func Example() {
	t := &printed{} // in a test, this is its *testing.T
	defer t.end()

	s := hosttest.Start(t, produce, light)
	reply, _ := s.Request("lamps.make", `{"id":"l1"}`)
	fmt.Println(string(reply))
	for _, e := range s.Await("LAMPS", "l1", "made", "lit") {
		fmt.Println(e.Version, e.Type, e.Source)
	}
	_, refused := s.Request("lamps.make", `{"id":"l1","watts":40}`)
	fmt.Println(refused.Code, refused.Field, refused.Reason)
	// Output:
	// {"id":"l1","lit":false}
	// 1 made produce
	// 2 lit light
	// 400 watts is not a field of this request
}
