//go:build unix

package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

// TestFullDisk has no room for the log for a while. It runs in a process of its
// own, since a limit on files is on all of a process.
func TestFullDisk(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	path := filepath.Join(t.TempDir(), "events.db")
	cmd.Env = append(os.Environ(), childRole+"=full disk", childFile+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := len(storetest.Consistent(t, t.Context(), open(t, path), storetest.Stream)); n < 3 {
		t.Errorf("%d events", n)
	}
}

func fullDisk(s *sqlite.Store) error {
	ctx := context.Background()
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := syscall.Rlimit{Cur: 400 << 10, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	stored, failed := 0, eventstore.Append{}
	for i := 0; failed.Events == nil; i++ {
		a := storetest.To("a", eventstore.Any, storetest.Event("happened", `"`+strings.Repeat("x", 50_000)+`"`))
		switch _, err := s.Append(ctx, a); {
		case err == nil && i < 100:
			stored++
		case errors.Is(err, eventstore.ErrUnavailable):
			failed = a
		default:
			return fmt.Errorf("append %d: want it to be unavailable: %w", i, err)
		}
	}
	// Reading goes on.
	if events, err := eventstore.Collect(s.ReadStream(ctx, eventstore.StreamRead{Stream: storetest.Stream})); err != nil || len(events) != stored {
		return fmt.Errorf("%d events with the disk full, want %d: %w", len(events), stored, err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	done, err := s.Append(ctx, failed)
	if err != nil || done.Duplicate || done.Version() != uint64(stored+1) {
		return fmt.Errorf("with room again: %+v, %w", done, err)
	}
	return nil
}
