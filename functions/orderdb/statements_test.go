package orderdb

import (
	"testing"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
)

// TestStatements keeps a list of all that is sent to Postgres; see pgtest.
func TestStatements(t *testing.T) {
	h, _ := orders(t, 3)
	pgtest.Statements(t, func(r *pgtest.Recorder) {
		db := New()
		if err := db.openPostgres(t.Context(), pgtest.Database(t), r); err != nil {
			t.Fatal(err)
		}
		if err := db.findView(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		if err := db.Apply(t.Context(), h, h); err != nil {
			t.Fatal(err)
		}
		db.set(t, "closed = 1") // a hand-over that died
		log := &stream{events: h}
		if err := db.Apply(t.Context(), log, h); err != nil {
			t.Fatal(err)
		}
		if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
			t.Fatal(err)
		}
		for _, f := range filters() {
			if _, _, err := db.List(t.Context(), f, "", 10); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.Get(t.Context(), "o1"); err != nil {
			t.Fatal(err)
		}
	})
}
