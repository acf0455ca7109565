package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestHead(t *testing.T) {
	store := memory.New()
	for n := range uint64(20) {
		if got, err := head(t.Context(), store, "LAMPS"); err != nil || got != n {
			t.Fatalf("%d, %v; want %d", got, err, n)
		}
		_, err := store.Append(t.Context(), eventstore.Append{
			Stream: "LAMPS", Aggregate: fmt.Sprintf("l%d", n), Expected: eventstore.New, Events: []eventstore.Event{storetest.Event("lit", `{}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := head(t.Context(), store, "lamps"); !errors.As(err, new(*eventstore.InvalidError)) {
		t.Errorf("of a name that can be none: %d, %v", got, err)
	}
}

func TestWhatCanBeRebuilt(t *testing.T) {
	kept := function.Function{Name: "kept", Doors: []function.Door{function.Project("LAMPS", nil).RebuiltBy(
		func(_ context.Context, _ function.History, _ func(function.Message, error)) error { return nil })}}
	grown := function.Function{Name: "grown", Doors: []function.Door{function.Project("LAMPS", nil)}}
	if f, door, err := (Program{Functions: []function.Function{grown, kept}}).rebuildable("kept"); err != nil || f.Name != "kept" || door.Stream != "LAMPS" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, _, err := (Program{Functions: []function.Function{grown, kept}}).rebuildable("grown"); err == nil || !strings.Contains(err.Error(), "there are kept") {
		t.Error(err)
	}
	if _, _, err := (Program{Functions: []function.Function{grown}}).rebuildable("grown"); err == nil {
		t.Error("what can't be rebuilt was found")
	}
}
