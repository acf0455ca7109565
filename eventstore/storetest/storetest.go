// Package storetest is the conformance suite of eventstore.Store. Every backend
// passes [Run], [RunBackend] and [RunReopen]; the gRPC client in front of one
// passes [Run].
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/eventstore"
)

// Stream is what the suite writes to, and Other a second one.
const (
	Stream = "ORDERS"
	Other  = "ACCOUNTS"
)

// Run runs the suite. open makes an empty store that ends with the test.
func Run(t *testing.T, open func(t *testing.T) eventstore.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, eventstore.Store)
	}{
		{"comes back as it was", comesBack},
		{"buffers may be used again", buffersAreFree},
		{"versions and positions have no gaps", noGaps},
		{"expected versions", expectedVersions},
		{"one of 32 writers wins", oneWinner},
		{"a loser does not hurt its neighbours", neighbours},
		{"several appends to one aggregate in a group", oneAggregate},
		{"streams are apart", streamsApart},
		{"appends are seen whole", seenWhole},
		{"the same id twice in a group", sameIDTwice},
		{"a repeat answers as the first", repeats},
		{"a repeat of other appends together", repeatsAcross},
		{"taken ids are refused", takenIDs},
		{"too much or wrong is refused", refusals},
		{"as much as is allowed is taken", boundaries},
		{"wrong reads are refused", wrongReads},
		{"reads", reads},
		{"reads of great events", greatReads},
		{"a read may be left", leftReads},
		{"reads by type", readsByType},
		{"a reader follows", follows},
		{"contexts that ended before", contextsEnded},
		{"contexts end while appends wait", contextsEnd},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Opened is what an Open returned, if it returned no error; it is closed when the
// test ends.
func Opened[S io.Closer](t testing.TB, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Event makes an event with an id of its own.
func Event(typ, data string) eventstore.Event {
	return eventstore.Event{ID: uuid.NewString(), Type: typ, Data: json.RawMessage(data), Time: time.Now()}
}

// To makes an append.
func To(aggregate string, expected eventstore.Expected, events ...eventstore.Event) eventstore.Append {
	return eventstore.Append{Stream: Stream, Aggregate: aggregate, Expected: expected, Events: events}
}

func one() eventstore.Event { return Event("happened", `{"n":1}`) }

func must(t *testing.T, s eventstore.Store, a eventstore.Append) eventstore.Appended {
	t.Helper()
	done, err := s.Append(t.Context(), a)
	if err != nil {
		t.Fatalf("append to %s %q: %v", a.Stream, a.Aggregate, err)
	}
	return done
}

func aggregate(t *testing.T, s eventstore.Store, r eventstore.AggregateRead) []eventstore.Event {
	t.Helper()
	if r.Stream == "" {
		r.Stream = Stream
	}
	events, err := eventstore.Collect(s.ReadAggregate(t.Context(), r))
	if err != nil {
		t.Fatalf("read %+v: %v", r, err)
	}
	return events
}

func stream(t *testing.T, s eventstore.Store, r eventstore.StreamRead) []eventstore.Event {
	t.Helper()
	if r.Stream == "" {
		r.Stream = Stream
	}
	events, err := eventstore.Collect(s.ReadStream(t.Context(), r))
	if err != nil {
		t.Fatalf("read %+v: %v", r, err)
	}
	return events
}

// Consistent checks that a stream's positions, and the versions of its
// aggregates, have no gap and no double, and answers its events.
func Consistent(t testing.TB, ctx context.Context, s eventstore.Store, name string) []eventstore.Event { //nolint:revive // t first
	t.Helper()
	events, err := eventstore.Collect(s.ReadStream(ctx, eventstore.StreamRead{Stream: name}))
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	versions, ids := map[string]uint64{}, map[string]bool{}
	for i, e := range events {
		if e.Position != uint64(i+1) {
			t.Fatalf("event %d of %s is at position %d", i+1, name, e.Position)
		}
		versions[e.Aggregate]++
		if e.Version != versions[e.Aggregate] {
			t.Fatalf("%s %q: version %d where %d comes", name, e.Aggregate, e.Version, versions[e.Aggregate])
		}
		if ids[e.ID] {
			t.Fatalf("%s: id %q is there twice", name, e.ID)
		}
		ids[e.ID] = true
	}
	return events
}

func equal(t *testing.T, got, want []eventstore.Event) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// count checks that the suite's stream is consistent and has n events.
func count(t *testing.T, s eventstore.Store, n int) {
	t.Helper()
	if got := len(Consistent(t, t.Context(), s, Stream)); got != n {
		t.Fatalf("%d events, want %d", got, n)
	}
}

func isInvalid(err error, field string) bool {
	var invalid *eventstore.InvalidError
	return errors.As(err, &invalid) && invalid.Field == field && invalid.Reason != ""
}

func isConflict(err error) bool {
	var conflict *eventstore.ConflictError
	return errors.As(err, &conflict)
}
