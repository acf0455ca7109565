package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

// childFile names the file that a child process of a test writes.
const childFile = "WAYBILL_TEST_CHILD_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		child(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
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

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "sub folder", "events?#.db") }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) eventstore.Store { return open(t, file(t)) })
	storetest.RunBackend(t, func(t *testing.T) eventstore.Backend { return open(t, file(t)) })
}

func TestSecondWriterIsRefused(t *testing.T) {
	path := file(t)
	open(t, path)
	_, err := sqlite.Open(t.Context(), path)
	if err == nil {
		t.Fatal("opened twice")
	}
	for _, word := range []string{path[:10], fmt.Sprint(os.Getpid()), "EVENTSTORE_DB"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestReopen(t *testing.T) {
	path := file(t)
	first := open(t, path)
	a := storetest.To("a", eventstore.New, storetest.Event("happened", `{}`))
	if _, err := first.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	done, err := second.Append(t.Context(), a)
	if err != nil || !done.Duplicate {
		t.Fatalf("after reopening: %+v, %v", done, err)
	}
	done, err = second.Append(t.Context(), storetest.To("a", eventstore.Exactly(1), storetest.Event("happened", `{}`)))
	if err != nil || done.Events[0].Position != 2 {
		t.Fatalf("after reopening: %+v, %v", done, err)
	}
}

// child appends until it is killed, and tells each id that was acknowledged.
func child(path string) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for {
				e := storetest.Event("happened", `{}`)
				if _, err := s.Append(ctx, storetest.To(fmt.Sprintf("a%d", w%3), eventstore.Any, e)); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(e.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKilledWriterLosesNothing(t *testing.T) {
	path := file(t)
	acked := map[string]bool{}
	for range 6 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childFile+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAt := 20 + rand.IntN(200)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Fatal(lines.Text())
			}
			acked[lines.Text()] = true
			if n == killAt {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		s := open(t, path)
		there := map[string]bool{}
		for _, e := range storetest.Consistent(t, t.Context(), s, storetest.Stream) {
			there[e.ID] = true
		}
		for id := range acked {
			if !there[id] {
				t.Fatalf("acknowledged event %s is lost", id)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	data := `{"pad":"` + strings.Repeat("x", 240) + `"}`
	for _, callers := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "events.db"))
			if err != nil {
				b.Fatal(err)
			}
			var wg sync.WaitGroup
			next := make(chan struct{}, 1024)
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for range next {
						e := storetest.Event("happened", data)
						if _, err := s.Append(context.Background(), storetest.To(e.ID, eventstore.New, e)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			for range b.N {
				next <- struct{}{}
			}
			close(next)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.StopTimer()
			time.Sleep(0)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
