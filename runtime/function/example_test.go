package function_test

import (
	"encoding/json"
	"fmt"

	"github.com/waybill-go/waybill/runtime/function"
)

// trip is a state whose event changed its schema.
type trip struct{ Cents int64 }

type booked struct {
	Cents int64 `json:"cents"`
}

func (booked) EventType() string { return "booked" }

// EventSchema is the number of the schema that is written: 1 had whole euros.
func (booked) EventSchema() int { return 2 }

func (trip) Stream() string { return "TRIPS" }

// Decode lifts what was stored under the older schema, so that nothing else
// knows of it.
func (trip) Decode(_ string, schema int, data []byte) (booked, error) {
	if schema == 1 {
		var old struct {
			Euros int64 `json:"euros"`
		}
		err := json.Unmarshal(data, &old)
		return booked{Cents: 100 * old.Euros}, err
	}
	var e booked
	err := json.Unmarshal(data, &e)
	return e, err
}

func (t trip) Evolve(e booked) trip { return trip{t.Cents + e.Cents} }

// An event whose fields change gets the next schema number, and its older forms
// are lifted when they are read. Events that are stored are never changed.
func ExampleState() {
	data, schema, err := function.Encode(booked{Cents: 250})
	if err != nil {
		panic(err)
	}
	fmt.Printf("written as schema %d: %s\n", schema, data)
	var state trip
	for _, stored := range []struct {
		schema int
		data   string
	}{{1, `{"euros":3}`}, {schema, string(data)}} {
		e, err := state.Decode("booked", stored.schema, []byte(stored.data))
		if err != nil {
			panic(err)
		}
		state = state.Evolve(e)
	}
	fmt.Println(state.Cents, "cents in all")
	// Output:
	// written as schema 2: {"cents":250}
	// 550 cents in all
}
