package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

var pad = `{"pad":"` + strings.Repeat("x", 256-len(`{"pad":""}`)) + `"}`

// BenchmarkAppend appends one event at a time from so many callers: to the
// store; to the least that a group commit of the same rows can do, which looks
// nothing up and serves one process only; and in a transaction for each.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 512} {
		for _, c := range []struct {
			name string
			open func(b *testing.B) func() error
		}{{"store", storeAppends}, {"bare", bareAppends}, {"single", singleAppends}} {
			b.Run(fmt.Sprintf("%s/callers=%d", c.name, callers), func(b *testing.B) { load(b, callers, c.open(b)) })
		}
	}
}

func load(b *testing.B, callers int, once func() error) {
	b.Helper()
	var wg sync.WaitGroup
	var begun atomic.Int64
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				if err := once(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

func storeAppends(b *testing.B) func() error {
	s := open(b, pgtest.Database(b))
	return func() error {
		e := storetest.Event("happened", pad)
		_, err := s.Append(context.Background(), storetest.To(e.ID, eventstore.New, e))
		return err
	}
}

const bareInsert = "INSERT INTO events SELECT 'ORDERS', p, a, 1, a, 'happened', $3, 1, '', '', '', '', $4 FROM unnest($1::BIGINT[], $2::TEXT[]) AS t (p, a)"

func bareAppends(b *testing.B) func() error {
	url := pgtest.Database(b)
	if err := open(b, url).Close(); err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	queue, ended := make(chan chan error, 512), make(chan struct{})
	go func() {
		defer close(ended)
		position := int64(0)
		for first := range queue {
			batch, positions, ids := []chan error{first}, []int64{}, []string{}
			for more := true; more && len(batch) < 512; {
				select {
				case next, open := <-queue:
					if more = open; open {
						batch = append(batch, next)
					}
				default:
					more = false
				}
			}
			for range batch {
				position++
				positions, ids = append(positions, position), append(ids, uuid.NewString())
			}
			_, err := conn.Exec(context.Background(), bareInsert, positions, ids, time.Now(), pad)
			for _, done := range batch {
				done <- err
			}
		}
	}()
	b.Cleanup(func() {
		close(queue)
		<-ended
		_ = conn.Close(context.Background())
	})
	return func() error {
		done := make(chan error, 1)
		queue <- done
		return <-done
	}
}

func singleAppends(b *testing.B) func() error {
	s := open(b, pgtest.Database(b))
	pool := s.ReadPool()
	var position atomic.Int64
	return func() error {
		_, err := pool.Exec(context.Background(), bareInsert, []int64{position.Add(1)}, []string{uuid.NewString()}, time.Now(), pad)
		return err
	}
}

func BenchmarkSize(b *testing.B) {
	storetest.BenchmarkSize(b, func(t testing.TB) eventstore.Backend {
		return open(t, pgtest.Database(t), postgres.Options{})
	})
}
