package pgtest

import (
	"context"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

var update = flag.Bool("update", false, "write testdata/statements.sql anew")

// Recorder remembers every statement that is sent; it is a tracer of pgx.
type Recorder struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (r *Recorder) saw(sql string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[strings.TrimSuffix(strings.TrimSpace(sql), ";")] = true
}

func (r *Recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.saw(d.SQL)
	return ctx
}
func (*Recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *Recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		r.saw(q.SQL)
	}
	return ctx
}
func (*Recorder) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*Recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// Statements compares what run sends to the database with the list in
// testdata/statements.sql; go test -run Statements -update writes it anew. The
// module in eventstore/postgres/cockroach reads the lists with CockroachDB's own
// grammar.
func Statements(t *testing.T, run func(*Recorder)) {
	t.Helper()
	Shared(t) // skips, or fails, where there is none
	r := &Recorder{seen: map[string]bool{}}
	run(r)
	delete(r.seen, "-- ping") // the pool's own
	got := strings.Join(slices.Sorted(maps.Keys(r.seen)), ";\n\n") + ";\n"
	golden := filepath.Join("testdata", "statements.sql")
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
		t.Errorf("the statements have changed (go test -run Statements -update writes them):\n%s", got)
	}
}
