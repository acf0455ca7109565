package orderdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// stream is a log that grows. read is called at each of its events that is read
// as part of the stream, and end where that reading ends.
type stream struct {
	mu     sync.Mutex
	events history
	from   []uint64 // where it was read from
	read   func(m function.Message)
	end    func(reading int)
}

func (s *stream) append(events ...function.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

func (s *stream) all() history {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events[:len(s.events):len(s.events)]
}

func (s *stream) ReadAggregate(ctx context.Context, id string, from uint64) iter.Seq2[function.Message, error] {
	return s.all().ReadAggregate(ctx, id, from)
}

func (s *stream) ReadStream(ctx context.Context, from uint64) iter.Seq2[function.Message, error] {
	return func(yield func(function.Message, error) bool) {
		s.mu.Lock()
		s.from = append(s.from, from)
		reading := len(s.from)
		s.mu.Unlock()
		for _, m := range s.all()[from-1:] {
			if s.read != nil {
				s.read(m)
			}
			if ctx.Err() != nil {
				yield(function.Message{}, ctx.Err())
				return
			}
			if !yield(m, nil) {
				return
			}
		}
		if s.end != nil {
			s.end(reading)
		}
	}
}

// whole is a stream of n orders, and what they fold to.
func whole(t testing.TB, n int) (*stream, map[string]order.Order) {
	t.Helper()
	h, want := orders(t, n)
	return &stream{events: h}, want
}

func noneLeft(t testing.TB) func(function.Message, error) {
	return func(m function.Message, why error) { t.Errorf("position %d was left out: %v", m.Position, why) }
}

// claim begins a rebuild.
func claim(t *testing.T, db *DB, log function.History) (*rebuild, error) {
	t.Helper()
	write, err := db.bulk()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = write.Close() })
	r := &rebuild{db: db, write: write}
	return r, r.claim(t.Context(), log)
}

// spoil has the table in use hold nonsense, which a rebuild does not look at.
func spoil(t *testing.T, db *DB) {
	t.Helper()
	if _, err := db.write.ExecContext(t.Context(), "UPDATE "+db.tableName(db.pointed(t))+" SET status = 'X', body = '{\"version\":1000}'"); err != nil {
		t.Fatal(err)
	}
}

func (db *DB) pointed(t testing.TB) (generation int64) {
	t.Helper()
	if err := db.write.QueryRowContext(t.Context(), "SELECT generation FROM orders_views WHERE name = $1", db.view).Scan(&generation); err != nil {
		t.Fatal(err)
	}
	return generation
}

// is says which tables the view has, and changes nothing else of the pointer.
func (db *DB) is(t *testing.T, tables ...string) {
	t.Helper()
	has, err := db.kind.tables(t.Context(), db.write, db.view+"_")
	if slices.Sort(has); err != nil || !slices.Equal(has, tables) {
		t.Fatalf("the tables are %v (%v), want %v", has, err, tables)
	}
}

func (db *DB) set(t *testing.T, what string) {
	t.Helper()
	if _, err := db.write.ExecContext(t.Context(), "UPDATE orders_views SET "+what); err != nil {
		t.Fatal(err)
	}
}

// TestRebuild has readers and replicas of three processes go on, in which every
// one still has the old table in mind.
func TestRebuild(t *testing.T) { each(t, rebuilds) }

func rebuilds(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 40)
	h := log.events
	log.events = h[:90] // the last order is at version 2, and comes to 3 later
	url := empty(t)
	db, reader, replica := open(t, url), open(t, url), open(t, url)
	for _, one := range []*DB{db, replica} {
		if err := one.Apply(t.Context(), log, log.all()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := reader.List(t.Context(), Filter{}, "", 10); err != nil {
		t.Fatal(err)
	}
	spoil(t, db)
	if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_2")
	all, _, err := reader.List(t.Context(), Filter{Status: order.Paid}, "", 100)
	if err != nil || len(all) != 30 {
		t.Fatalf("%d orders, %v", len(all), err)
	}
	if all, _, err := reader.List(t.Context(), Filter{Customer: "nobody"}, "", 100); err != nil || len(all) > 0 {
		t.Fatalf("%d orders, %v", len(all), err)
	}
	log.append(h[90:]...)
	if err := replica.Apply(t.Context(), log, h[85:]); err != nil {
		t.Fatal(err)
	}
	check(t, reader, want)
	if err := replica.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_3")
	check(t, reader, want)
}

// TestReadersFollowThePointer moves it, and leaves the old table there.
func TestReadersFollowThePointer(t *testing.T) { each(t, readersFollowThePointer) }

func readersFollowThePointer(t *testing.T, empty func(testing.TB) string) {
	log, _ := whole(t, 2)
	url := empty(t)
	db, reader := open(t, url), open(t, url)
	if err := db.Apply(t.Context(), log, log.events[:2]); err != nil {
		t.Fatal(err)
	}
	if o, err := reader.Get(t.Context(), "o1"); err != nil || o.Version != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	r, err := claim(t, db, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.apply(t.Context(), log.events[:4], noneLeft(t), "position = $1", 4), r.change(t.Context(), "generation = 2, building = 0")); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_1", "orderview_2")
	if o, err := reader.Get(t.Context(), "o1"); err != nil || o.Version != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	list, _, err := open(t, url).List(t.Context(), Filter{Status: order.Pending}, "", 10)
	if err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestABrokenOffRebuildGoesOn breaks a rebuild off wherever it reads, in the
// middle of a transaction too, as often as it takes.
func TestABrokenOffRebuildGoesOn(t *testing.T) { each(t, aBrokenOffRebuildGoesOn) }

func aBrokenOffRebuildGoesOn(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 5000) // 12,500 events: several transactions
	db := open(t, empty(t))
	for breakAt := uint64(1); ; breakAt += 3000 {
		ctx, cancel := context.WithCancel(t.Context())
		log.read = func(m function.Message) {
			if m.Position == breakAt {
				cancel()
			}
		}
		err := db.Rebuild(ctx, log, noneLeft(t))
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		db.is(t, "orderview_1", "orderview_2")
	}
	db.is(t, "orderview_2")
	if slices.Max(log.from) <= 1 || !slices.IsSorted(log.from) {
		t.Errorf("it was read from %v: nothing was gone on with", log.from)
	}
	check(t, db, want)
}

// TestWhoMayGoOn: nobody, while another rebuild lives; then the same program,
// with the same history. Others begin anew.
func TestWhoMayGoOn(t *testing.T) { each(t, whoMayGoOn) }

func whoMayGoOn(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 10)
	url := empty(t)
	db, other := open(t, url), open(t, url)
	first, err := claim(t, db, log)
	if err != nil {
		t.Fatal(err)
	}
	store := func(r *rebuild, n int) error {
		return r.apply(t.Context(), log.events[:n], noneLeft(t), "position = $1, leased = "+r.db.after(leaseTime), uint64(n))
	}
	refused := make(chan error, 1)
	go func() { refused <- other.Rebuild(context.Background(), log, noneLeft(t)) }()
	for err = error(nil); err == nil; {
		if err := store(first, 5); err != nil { // it lives
			t.Fatal(err)
		}
		select {
		case err = <-refused:
		default:
		}
	}
	if !errors.Is(err, ErrRebuilding) {
		t.Fatal(err)
	}
	db.set(t, "leased = 1") // it stood still
	second, err := claim(t, other, log)
	if err != nil || second.position != 5 || second.generation != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	if err := store(first, 10); !errors.Is(err, errLost) {
		t.Fatalf("it stored without a lease: %v", err)
	}
	if err := errors.Join(store(second, 10), second.release()); err != nil {
		t.Fatal(err)
	}
	db.set(t, "program = 'another'")
	third, err := claim(t, db, log)
	if err != nil || third.position != 0 || third.generation != 3 {
		t.Fatalf("%+v, %v", third, err)
	}
	db.is(t, "orderview_1", "orderview_3")
	if err := errors.Join(store(third, 10), third.release()); err != nil {
		t.Fatal(err)
	}
	restored := &stream{events: slices.Clone(log.events)}
	for i := range restored.events { // of another event store
		restored.events[i].Aggregate = "x" + restored.events[i].Aggregate
	}
	if err := db.Rebuild(t.Context(), restored, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_4")
	if all, _, err := other.List(t.Context(), Filter{}, "", 100); err != nil || len(all) != len(want) {
		t.Errorf("%d orders, %v", len(all), err)
	}
}

// TestRebuildMendsAForeignView: what says that the view was made of other events
// says what to do, and replicas go on then.
func TestRebuildMendsAForeignView(t *testing.T) { each(t, rebuildMendsAForeignView) }

func rebuildMendsAForeignView(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 3)
	url := empty(t)
	if err := open(t, url).Apply(t.Context(), log, log.all()); err != nil {
		t.Fatal(err)
	}
	other := &stream{events: slices.Clone(log.events)}
	slices.Reverse(other.events[:3])
	for i := range other.events {
		other.events[i].Position, other.events[i].ID = uint64(i+1), "other"
	}
	replica := open(t, url)
	if err := replica.Apply(t.Context(), other, other.events[5:]); !errors.Is(err, function.ErrUnavailable) || !strings.Contains(err.Error(), "rebuild orderview") {
		t.Fatal(err)
	}
	if err := open(t, url).Rebuild(t.Context(), other, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	if err := replica.Apply(t.Context(), other, other.events); err != nil {
		t.Fatal(err)
	}
	check(t, replica, want)
}

// TestWhatCantBeDecodedIsLeft: one order stays before such an event, and no
// other is the worse for it.
func TestWhatCantBeDecodedIsLeft(t *testing.T) { each(t, whatCantBeDecodedIsLeft) }

func whatCantBeDecodedIsLeft(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 6) // created 1 to 6, paymentdebited 7 to 12, approved
	log.events[8].Data = json.RawMessage(`[]`)
	log.events[1].Data = json.RawMessage(`null`)
	db := open(t, empty(t))
	left := map[string][]uint64{}
	err := db.Rebuild(t.Context(), log, func(m function.Message, why error) {
		if why == nil {
			t.Errorf("%+v is left without a reason", m)
		}
		left[m.Aggregate] = append(left[m.Aggregate], m.Version)
	})
	if err != nil || fmt.Sprint(left) != "map[o1:[1 2] o2:[2 3]]" {
		t.Fatalf("%v, %v", left, err)
	}
	delete(want, "o1")
	want["o2"] = func() order.Order { o, _ := db.Get(t.Context(), "o2"); return o }()
	if o := want["o2"]; o.Version != 1 || o.Status != order.Pending {
		t.Errorf("%+v", o)
	}
	check(t, db, want)
	if o, err := db.Get(t.Context(), "o1"); err != nil || o.Exists() {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestViewsAreApart has two views in one database, of which one is rebuilt, with
// what others left behind.
func TestViewsAreApart(t *testing.T) { each(t, viewsAreApart) }

func viewsAreApart(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 4)
	url := empty(t)
	kitchenURL := url
	db, kitchen := open(t, url), NewView("orderview2", "KITCHEN_DB", nil, &kitchenURL)
	if err := kitchen.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kitchen.Close() })
	if _, err := db.write.ExecContext(t.Context(), "CREATE TABLE orderview_17 (a INTEGER)"); err != nil {
		t.Fatal(err)
	}
	if err := kitchen.Apply(t.Context(), log, log.events); err != nil {
		t.Fatal(err)
	}
	if o, err := db.Get(t.Context(), "o1"); err != nil || o.Exists() {
		t.Fatalf("%+v, %v", o, err)
	}
	if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_2")
	kitchen.is(t, "orderview2_1")
	check(t, db, want)
	check(t, kitchen, want)
	if err := NewView("Kitchen_1", "KITCHEN_DB", nil, &url).Open(t.Context()); err == nil {
		t.Error("a name that can be none was taken")
	}
	kitchenURL = "nonsense"
	if err := kitchen.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "KITCHEN_DB") {
		t.Error(err)
	}
}
