package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// cutTo is PostgreSQL failing over to a standby that lacks the last commits,
// under an event store that runs.
func cutTo(t *testing.T, url string, position int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		fmt.Sprintf("SELECT position FROM heads WHERE stream = '%s' FOR UPDATE", stream),
		fmt.Sprintf("DELETE FROM events WHERE stream = '%s' AND position > %d", stream, position),
		fmt.Sprintf("UPDATE heads SET position = %d WHERE stream = '%s'", position, stream),
		fmt.Sprintf("UPDATE durables SET floor = %d WHERE stream = '%s'", position-5, stream),
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSQLBackWithLess: what JetStream has and SQL no longer has is told, also
// when SQL soon reaches as far as it had; and a refill mends it.
func TestSQLBackWithLess(t *testing.T) {
	for name, more := range map[string]int{"idle": 0, "busy": 40} {
		t.Run(name, func(t *testing.T) {
			server, url := natstest.Start(t), pgtest.Database(t)
			f := newFacade(t, url, server.Connect())
			add(t, f.store, 100)
			caughtUp(t, f.store, f.nc, 1)
			durable(t, f.nc, "payment", 100)
			eventually(t, "save floor", func() error {
				rows, err := f.store.Durables(t.Context(), stream)
				if err != nil || len(rows) != 1 || rows[0].Floor != 100 {
					return fmt.Errorf("saved %v, %w", rows, err)
				}
				return nil
			})
			cutTo(t, url, 95)
			for range more {
				add(t, f.store, 1)
			}
			eventually(t, "tell it", func() error {
				if p := fmt.Sprint(f.relay.Status()); !strings.Contains(p, "the command refill") {
					return fmt.Errorf("status %s", p)
				}
				return nil
			})
			first, _, err := f.relay.Refill(t.Context(), stream, 0)
			if err != nil {
				t.Fatalf("refilled from %d, %v", first, err)
			}
			add(t, f.store, 10)
			caughtUp(t, f.store, f.nc, first)
			c, err := js(t, f.nc).Consumer(t.Context(), stream, "payment")
			if err != nil {
				t.Fatal(err)
			}
			m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream != 91 {
				t.Fatalf("it goes on at %d, want 91 (%v)", meta.Sequence.Stream, err)
			}
		})
	}
}
