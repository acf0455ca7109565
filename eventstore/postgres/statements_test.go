package postgres_test

import (
	"context"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

var update = flag.Bool("update", false, "write testdata/statements.sql anew")

const golden = "testdata/statements.sql"

// recorder remembers every statement that is sent.
type recorder struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (r *recorder) saw(sql string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[strings.TrimSuffix(strings.TrimSpace(sql), ";")] = true
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.saw(d.SQL)
	return ctx
}
func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		r.saw(q.SQL)
	}
	return ctx
}
func (*recorder) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestStatements keeps a list of all that is sent to the database, the
// migrations' statements and those of their library too. The list is what the
// module in the folder cockroach reads with CockroachDB's own grammar.
func TestStatements(t *testing.T) {
	r := &recorder{seen: map[string]bool{}}
	o := postgres.Options{}.WithTracer(r)
	storetest.Run(t, func(t *testing.T) eventstore.Store { return open(t, pgtest.Database(t), o) })
	storetest.RunBackend(t, func(t *testing.T) eventstore.Backend { return open(t, pgtest.Database(t), o) })
	delete(r.seen, "-- ping") // the pool's own
	got := strings.Join(slices.Sorted(maps.Keys(r.seen)), ";\n\n") + ";\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the statements have changed: go test ./eventstore/postgres -run Statements -update\n%s", got)
	}
}
