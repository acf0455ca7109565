package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

func child(role, path string) error {
	s, err := sqlite.Open(context.Background(), path)
	if err != nil {
		return err
	}
	switch role {
	case "append":
		return appendForEver(s)
	case "full disk":
		return errors.Join(fullDisk(s), s.Close())
	default:
		return fmt.Errorf("role %q", role)
	}
}

// appendForEver appends until it is killed, and tells each append that was
// acknowledged: its number of events, and the first one's id.
func appendForEver(s *sqlite.Store) error {
	var out sync.Mutex
	failed := make(chan error)
	for w := range 16 {
		go func() {
			for i := 0; ; i++ {
				events := make([]eventstore.Event, 1+i%3)
				id := storetest.Event("happened", `{}`).ID
				for j := range events {
					events[j] = eventstore.Event{ID: fmt.Sprintf("%s-%d", id, j), Type: "happened", Data: []byte(`{"n":1}`)}
				}
				if _, err := s.Append(context.Background(), storetest.To(fmt.Sprintf("a%d", (w+i)%24), eventstore.Any, events...)); err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(len(events), id)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKilledWriterLosesNothing kills a process that appends, again and again,
// and finds every acknowledged append whole, once, and nothing broken.
func TestKilledWriterLosesNothing(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	path := filepath.Join(t.TempDir(), "events.db")
	acked := map[string]int{}
	for range rounds {
		killed(t, path, 20+rand.IntN(300), acked)
		s := open(t, path)
		found := map[string]int{}
		all := storetest.Consistent(t, t.Context(), s, storetest.Stream)
		for _, e := range all {
			found[e.ID[:strings.LastIndexByte(e.ID, '-')]]++
		}
		for id, n := range acked {
			if found[id] != n {
				t.Fatalf("of the acknowledged append %s %d of %d events are there", id, found[id], n)
			}
		}
		if head, err := s.Head(t.Context(), storetest.Stream); err != nil || head != uint64(len(all)) {
			t.Fatalf("head %d of %d events, %v", head, len(all), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killed runs a process that appends, kills it after so many acknowledged
// appends, and notes those, and what it had told before it died.
func killed(t *testing.T, path string, after int, acked map[string]int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"=append", childFile+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n') // a line that was cut short tells nothing
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		var events int
		var id string
		if _, err := fmt.Sscan(line, &events, &id); err != nil {
			t.Fatalf("the process said %q", line)
		}
		acked[id] = events
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process ended before it was killed")
	}
}
