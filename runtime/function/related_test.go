package function_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/waybill-go/waybill/runtime/function"
)

// room is a lamp's: it refers to those that hang in it.
type room struct{ Lamps []string }

type hung struct {
	Lamp string `json:"lamp"`
}

func (hung) EventType() string { return "hung" }
func (room) Stream() string    { return "ROOMS" }
func (room) Decode(_ string, _ int, data []byte) (hung, error) {
	var e hung
	err := json.Unmarshal(data, &e)
	return e, err
}
func (r room) Evolve(e hung) room { return room{append(r.Lamps, e.Lamp)} }
func (r room) Related() map[string][]string {
	return map[string][]string{"WALLS": {"w1"}, "LAMPS": r.Lamps}
}

func TestRelated(t *testing.T) {
	door := function.On(func(context.Context, room, hung) ([]hung, error) { return nil, nil })
	request := function.Command("rooms.hang", func(context.Context, room, toggle) ([]hung, error) { return nil, nil })
	lamps := function.On(func(context.Context, lamp, made) ([]event, error) { return nil, nil })
	view := function.Project("ROOMS", func(context.Context, function.Log, []function.Message) error { return nil })
	of := func(doors ...function.Door) []function.Function {
		return []function.Function{{Name: "f", Doors: doors}}
	}
	message := func(stream string, version uint64, data string) function.Message {
		return function.Message{Stream: stream, Aggregate: "a", Version: version, Type: "hung", Data: json.RawMessage(data)}
	}
	events := []function.Message{message("ROOMS", 1, `{"lamp":"l1"}`), message("ROOMS", 2, `{"lamp":"l2"}`)}
	want := []function.Reference{{"LAMPS", "l1"}, {"LAMPS", "l2"}, {"WALLS", "w1"}}
	for name, c := range map[string]struct {
		functions []function.Function
		events    []function.Message
		want      []function.Reference
		err       error
	}{
		"by an event's door":      {of(lamps, door), events, want, nil},
		"by a request's door":     {of(view, request), events, want, nil},
		"no door knows the State": {of(lamps, view), events, nil, nil},
		"the State tells none":    {of(lamps), []function.Message{message("LAMPS", 1, `{}`)}, nil, nil},
		"no events":               {of(door), nil, nil, nil},
		"unreadable":              {of(door), []function.Message{message("ROOMS", 1, `[]`)}, nil, function.ErrDecode},
	} {
		got, err := function.Related(c.functions, c.events)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	ask := function.Endpoint("rooms.ask", func(context.Context, toggle) (int, error) { return 0, nil })
	if got := function.Streams(append(of(view, ask), of(lamps, door)...)); !slices.Equal(got, []string{"ROOMS", "LAMPS"}) {
		t.Errorf("streams %v", got)
	}
}
