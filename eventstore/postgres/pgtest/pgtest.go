// Package pgtest runs a real PostgreSQL for tests. It uses the programs that
// are installed, as Debian's package postgresql has them or on the PATH, with
// its files in a temporary folder and a free port on loopback.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// advice is what a missing PostgreSQL is answered with.
const advice = "tests of PostgreSQL need it installed: apt-get install postgresql"

// Server is a running PostgreSQL.
type Server struct {
	bin, dir string
	port     int
	owner    *syscall.Credential // nil: this user

	mu  sync.Mutex
	cmd *exec.Cmd
	log bytes.Buffer
	n   int
}

var shared struct {
	once   sync.Once
	told   sync.Once
	server *Server
	err    error
}

// Main is a package's TestMain: it runs the tests, stops the server that they
// shared, and fails when goroutines are left over that nobody forgot.
func Main(m *testing.M, forgotten ...goleak.Option) {
	code := m.Run()
	if shared.server != nil {
		shared.server.remove()
	}
	if err := goleak.Find(forgotten...); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Shared is the server of this test binary. A test that needs one is skipped
// where PostgreSQL is not installed; with CI=true it fails.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = start() })
	if errors.Is(shared.err, errMissing) && os.Getenv("CI") != "true" {
		shared.told.Do(tell)
		t.Skip(advice)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// Database makes an empty database, and answers its URL.
func Database(t testing.TB) string { t.Helper(); return Shared(t).Database(t) }

// Database makes an empty database, and answers its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	s.n++
	name := fmt.Sprintf("test%d", s.n)
	s.mu.Unlock()
	s.Exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Log(err) // the server goes anyway
		}
	})
	return s.URL(name)
}

// URL is that of a database of the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Exec executes a statement as the superuser.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	if err := s.exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

var errMissing = errors.New(advice)

// tell says so to whoever runs `go test ./...`, which shows nothing that a
// package's passing tests print: the go command is this process's parent, and
// its standard error is there to be written to on Linux. Elsewhere `go test -v`
// says it.
func tell() {
	if filepath.Base(os.Args[0]) != "postgres.test" {
		return // one package says it for all
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/2", os.Getppid()), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		f = os.Stderr
	} else {
		defer func() { _ = f.Close() }() // nothing to lose
	}
	fmt.Fprintln(f, "skipped: "+advice)
}

func start() (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp("", "waybill-postgres-"); err != nil {
		return nil, err
	}
	if err := s.init(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// find is the folder of PostgreSQL's programs.
func find() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errMissing
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

// init makes a cluster. PostgreSQL refuses root, so root makes it another
// user's.
func (s *Server) init() error {
	if os.Geteuid() == 0 {
		other, err := user.Lookup("postgres")
		if err != nil {
			if other, err = user.Lookup("nobody"); err != nil {
				return err
			}
		}
		uid, err1 := strconv.ParseUint(other.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(other.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(s.dir, int(uid), int(gid))); err != nil {
			return err
		}
		s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is
	if err := l.Close(); err != nil {
		return err
	}
	cmd := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:gosec,noctx // PostgreSQL's own; ends with Stop
	cmd.Dir = s.dir
	cmd.SysProcAttr = attributes(s.owner)
	return cmd
}

// readyWait is how long the server may take to come up.
const readyWait = 30 * time.Second

// Start starts the server again after Stop.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Reset()
	s.cmd = s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "shared_buffers=64MB", "-c", "logging_collector=off")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyWait)
	defer cancel()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			s.stop(syscall.SIGQUIT)
			return fmt.Errorf("start PostgreSQL: %w: %s", err, s.log.String())
		}
		time.Sleep(10 * time.Millisecond) // it has no better way to tell
	}
}

// Stop ends the server at once, as a crash does: what it committed it still has.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop(syscall.SIGQUIT)
}

func (s *Server) stop(signal syscall.Signal) {
	_ = s.cmd.Process.Signal(signal) // it may have ended
	_ = s.cmd.Wait()
}

func (s *Server) remove() {
	s.Stop()
	_ = os.RemoveAll(s.dir) // in the folder for such files
}
