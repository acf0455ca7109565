package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// takeLock makes sure that nobody else writes the file, and notes who does.
func takeLock(file string) (*flock.Flock, error) {
	name := file + ".lock"
	lock := flock.New(name)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	if !ok {
		return nil, fmt.Errorf("%s has %q open; one process writes a SQLite file: "+
			"stop that one, or let several share a database with EVENTSTORE_DB=postgres://HOST/DATABASE", holder(name), file)
	}
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %q: %w", name, err), lock.Close())
	}
	return lock, nil
}

// holder says who holds a lock. The lock is what counts: between taking it and
// noting the pid the file says nothing, or who had it before.
func holder(name string) string {
	text, _ := os.ReadFile(name)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return "another process"
	case pid == os.Getpid():
		return fmt.Sprintf("this process (pid %d)", pid)
	default:
		return fmt.Sprintf("the process with pid %d", pid)
	}
}
