package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/eventstore/transfer"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func openSQLite(t testing.TB) eventstore.Backend {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	return storetest.Opened(t, s, err)
}

func openPostgres(t testing.TB) eventstore.Backend {
	t.Helper()
	s, err := postgres.Open(t.Context(), pgtest.Database(t))
	return storetest.Opened(t, s, err)
}

// odd is data that encoding/json would write in another way.
var odd = []string{
	`{"a": 1,  "b" :[ 1 , 2 ]}`,
	`{"html":"<a href=\"x\">&</a>"}`,
	"{\"separators\":\"\u2028\u2029\"}",
	`{"escaped":"\u003c\u2028\u00fc\/"}`,
	`{"number":1.0e+00,"long":123456789012345678901234567890}`,
	`null`, `"text"`, `-0`, `{}`,
	" {\"a\":1}", "{\"a\":1}\t", " 1 ",
	"{\r\n\t\"a\": \"<\u2028>\\n\"\n}\n",
	`{"twice":1,"twice":2}`,
	"\"\u00a0\x7f\"",
}

// fill appends the odd data, and n events more; a floor is saved.
func fill(t testing.TB, s eventstore.Backend, n int) {
	t.Helper()
	var events []eventstore.Event
	for _, data := range odd {
		events = append(events, storetest.Event("happened", data))
	}
	e := &events[0]
	e.Source, e.CausationID, e.CorrelationID, e.Schema = "payment", "cause", "<flow> & \"more\"", 7
	e.Traceparent, e.Time = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", time.Date(1999, 12, 31, 23, 59, 59, 1000, time.UTC)
	add(t, s, storetest.To("odd", eventstore.New, events...))
	for ; n > 0; n -= 50 {
		events = nil
		for i := range min(n, 50) {
			events = append(events, storetest.Event("happened", fmt.Sprintf(`{"n":%d,"i":%d,"pad":%q}`, n, i, strings.Repeat("x", 200))))
		}
		add(t, s, storetest.To(fmt.Sprint("a", n%7), eventstore.Any, events...))
	}
	durables := []eventstore.Durable{
		{Name: "payment", Config: json.RawMessage(`{"filter":"<ORDERS.>"}`), Floor: 7},
		{Name: "review", Config: json.RawMessage(`{}`)},
	}
	if err := s.SaveDurables(t.Context(), storetest.Stream, durables); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, s eventstore.Store, a eventstore.Append) {
	t.Helper()
	if _, err := s.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

func export(t testing.TB, s transfer.Source) (string, transfer.Summary) {
	t.Helper()
	var file bytes.Buffer
	done, err := transfer.Export(t.Context(), s, storetest.Stream, &file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.String(), done
}

// TestThereAndBack goes from SQLite to PostgreSQL and back: every file is the
// same to the byte.
func TestThereAndBack(t *testing.T) {
	first := openSQLite(t)
	fill(t, first, 5000)
	file, exported := export(t, first)
	want := storetest.Consistent(t, t.Context(), first, storetest.Stream)
	if exported.Events != uint64(len(want)) || !strings.HasPrefix(exported.Checksum, "sha256:") {
		t.Fatalf("exported %+v of %d events", exported, len(want))
	}
	durables, err := first.Durables(t.Context(), storetest.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string][]eventstore.Backend{
		"postgres and sqlite": {openPostgres(t), openSQLite(t)},
		"sqlite":              {openSQLite(t)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range to {
				imported, err := transfer.Import(t.Context(), s, strings.NewReader(file), nil)
				if err != nil {
					t.Fatal(err)
				}
				again, done := export(t, s)
				if again != file || done != exported || imported.Checksum != exported.Checksum || imported.Stored != exported.Events {
					t.Fatalf("exported %+v, imported %+v, exported %+v; the same file: %t", exported, imported, done, again == file)
				}
				if got := storetest.Consistent(t, t.Context(), s, storetest.Stream); !reflect.DeepEqual(got, want) {
					t.Fatal("the events are others")
				}
				if got, err := s.Durables(t.Context(), storetest.Stream); err != nil || !reflect.DeepEqual(got, durables) {
					t.Fatalf("durables %+v, %v; want %+v", got, err, durables)
				}
				file = again
			}
		})
	}
}

func TestNoEvents(t *testing.T) {
	file, done := export(t, openSQLite(t))
	if done.Events != 0 || strings.Count(file, "\n") != 2 {
		t.Fatalf("%+v: %s", done, file)
	}
	if _, err := transfer.Import(t.Context(), openSQLite(t), strings.NewReader(file), nil); err != nil {
		t.Fatal(err)
	}
	var invalid *eventstore.InvalidError
	if _, err := transfer.Export(t.Context(), openSQLite(t), "orders", &bytes.Buffer{}, nil); !errors.As(err, &invalid) || invalid.Field != "stream" {
		t.Fatal(err)
	}
}

// TestExportWhileAppendsRun has a file that ends where the stream ended when it
// began.
func TestExportWhileAppendsRun(t *testing.T) {
	s := openSQLite(t)
	fill(t, s, 3000)
	head, err := s.Head(t.Context(), storetest.Stream)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	done, err := transfer.Export(t.Context(), s, storetest.Stream, &file, func(uint64, uint64) {
		add(t, s, storetest.To("late", eventstore.Any, storetest.Event("happened", `1`)))
	})
	if err != nil || done.Events != head {
		t.Fatalf("%+v, %v; want %d events", done, err, head)
	}
	if _, err := transfer.Import(t.Context(), openSQLite(t), &file, nil); err != nil {
		t.Fatal(err)
	}
}

// TestInterrupted breaks an import off, by its context and by a file that is cut
// short, and starts it again.
func TestInterrupted(t *testing.T) {
	from := openSQLite(t)
	fill(t, from, 6000)
	file, exported := export(t, from)
	for name, open := range map[string]func(testing.TB) eventstore.Backend{"sqlite": openSQLite, "postgres": openPostgres} {
		t.Run(name, func(t *testing.T) {
			to := open(t)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := transfer.Import(ctx, to, strings.NewReader(file), func(done, _ uint64) {
				if done == 3*1024 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			has(t, to, 2048)
			cut := file[:len(file)*9/10]
			if _, err := transfer.Import(t.Context(), to, strings.NewReader(cut), nil); err == nil || !strings.Contains(err.Error(), "cut short") {
				t.Fatal(err)
			}
			has(t, to, 4096)
			if saved, err := to.Durables(t.Context(), storetest.Stream); err != nil || len(saved) > 0 {
				t.Fatalf("durables %+v of an import that has not ended, %v", saved, err)
			}
			done, err := transfer.Import(t.Context(), to, strings.NewReader(file), nil)
			if err != nil || done.Stored != exported.Events-4096 {
				t.Fatalf("%+v, %v", done, err)
			}
			if again, _ := export(t, to); again != file {
				t.Fatal("what arrived is another stream")
			}
		})
	}
}

func has(t *testing.T, s eventstore.Backend, want uint64) {
	t.Helper()
	if head, err := s.Head(t.Context(), storetest.Stream); err != nil || head != want {
		t.Fatalf("head %d, %v; want %d", head, err, want)
	}
}

// TestAgain imports what is there already: a function that has come further
// since stays there.
func TestAgain(t *testing.T) {
	s := openSQLite(t)
	fill(t, s, 10)
	file, exported := export(t, s)
	now := []eventstore.Durable{
		{Name: "payment", Config: json.RawMessage(`{"newer":true}`), Floor: 9},
		{Name: "view", Config: json.RawMessage(`{}`), Floor: 2},
	}
	if err := s.SaveDurables(t.Context(), storetest.Stream, now); err != nil {
		t.Fatal(err)
	}
	done, err := transfer.Import(t.Context(), s, strings.NewReader(file), nil)
	if err != nil || done.Stored != 0 || done.Checksum != exported.Checksum {
		t.Fatalf("%+v, %v", done, err)
	}
	want := []eventstore.Durable{now[0], {Name: "review", Config: json.RawMessage(`{}`)}, now[1]}
	if got, err := s.Durables(t.Context(), storetest.Stream); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("durables %+v, %v; want %+v", got, err, want)
	}
}

// TestOccupied imports into streams that have other events, or more.
func TestOccupied(t *testing.T) {
	from := openSQLite(t)
	fill(t, from, 10)
	file, _ := export(t, from)
	events := storetest.Consistent(t, t.Context(), from, storetest.Stream)
	for name, change := range map[string]func(e *eventstore.Event){
		"another id":        func(e *eventstore.Event) { e.ID = "other" },
		"other data":        func(e *eventstore.Event) { e.Data = json.RawMessage(`{"a":1}`) },
		"another type":      func(e *eventstore.Event) { e.Type = "other" },
		"another aggregate": func(e *eventstore.Event) { e.Aggregate, e.Version = "other", 1 },
	} {
		to := openSQLite(t)
		some := append([]eventstore.Event(nil), events[:3]...)
		change(&some[2])
		if err := to.Restore(t.Context(), storetest.Stream, some); err != nil {
			t.Fatal(err)
		}
		_, err := transfer.Import(t.Context(), to, strings.NewReader(file), nil)
		if err == nil || !strings.Contains(err.Error(), "line 4: position 3 of ORDERS is another event already") {
			t.Errorf("%s: %v", name, err)
		}
		has(t, to, 3)
	}
	add(t, from, storetest.To("more", eventstore.New, storetest.Event("happened", `1`)))
	if _, err := transfer.Import(t.Context(), from, strings.NewReader(file), nil); err == nil || !strings.Contains(err.Error(), "has 26 events already") {
		t.Error(err)
	}
}

var errDisk = errors.New("no space left on device")

// BenchmarkTransfer exports and imports events of 256 bytes of data.
func BenchmarkTransfer(b *testing.B) {
	const n = 100_000
	for name, open := range map[string]func(testing.TB) eventstore.Backend{"sqlite": openSQLite, "postgres": openPostgres} {
		from := open(b)
		fill(b, from, n)
		var file string
		b.Run("export/"+name, func(b *testing.B) {
			for b.Loop() {
				file, _ = export(b, from)
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
		})
		b.Run("import/"+name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				to := open(b)
				b.StartTimer()
				if _, err := transfer.Import(b.Context(), to, strings.NewReader(file), nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
