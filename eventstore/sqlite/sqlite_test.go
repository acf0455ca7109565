package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

// A test that needs a process of its own runs this binary again, with childRole
// saying what it is to do with the file childFile.
const (
	childRole = "WAYBILL_TEST_CHILD"
	childFile = "WAYBILL_TEST_CHILD_FILE"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := child(role, os.Getenv(childFile)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	return storetest.Opened(t, s, err)
}

// file is a path whose folder is not there yet, and that a URI has to escape.
func file(t testing.TB) string { return filepath.Join(t.TempDir(), "sub folder", "events?#%20.db") }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) eventstore.Store { return open(t, file(t)) })
	storetest.RunBackend(t, func(t *testing.T) eventstore.Backend { return open(t, file(t)) })
}

// TestReopenAfterCrash opens a copy of the files, as they are while the store
// has them open: what a crash leaves.
func TestReopenAfterCrash(t *testing.T) {
	storetest.RunReopen(t, func(t *testing.T) (eventstore.Store, func(*testing.T) eventstore.Store) {
		path := file(t)
		return open(t, path), func(t *testing.T) eventstore.Store {
			left := filepath.Join(t.TempDir(), "left.db")
			for _, suffix := range []string{"", "-wal"} {
				data, err := os.ReadFile(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(left+suffix, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return open(t, left)
		}
	})
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

func TestSecondWriterIsRefused(t *testing.T) {
	path := file(t)
	open(t, path)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{path, link, filepath.Dir(path) + "/../" + "sub folder/" + filepath.Base(path)} {
		_, err := sqlite.Open(t.Context(), way)
		if err == nil {
			t.Fatalf("%s was opened twice", way)
		}
		for _, word := range []string{filepath.Base(path), fmt.Sprint("pid ", os.Getpid()), "EVENTSTORE_DB=postgres://"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %q", err, word)
			}
		}
	}
}

func TestLockOfTheDeadIsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	if err := os.WriteFile(path+".lock", []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if pid, err := os.ReadFile(path + ".lock"); err != nil || string(pid) != fmt.Sprintln(os.Getpid()) {
		t.Fatalf("the lock file says %q, %v", pid, err)
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(folder, "newer.db")
	s, err := sqlite.Open(t.Context(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db := plain(t, newer)
	if _, err := db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)"); err != nil {
		t.Fatal(err)
	}
	for path, word := range map[string]string{
		"":                              "empty",
		folder:                          "open",
		text:                            "not a database",
		filepath.Join(text, "inside"):   "not a directory",
		newer:                           "schema 99999",
		filepath.Join(folder, "a\x00b"): "invalid",
	} {
		for range 2 { // a lock that was left would say otherwise
			if _, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%q: %v, want %q", path, err, word)
			}
		}
	}
}

// plain opens the file as a person with the sqlite3 shell does.
func plain(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	return storetest.Opened(t, db, err)
}

func TestAPersonCanReadIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	s := open(t, path)
	e := storetest.Event("created", `{"name":"Käse"}`)
	done, err := s.Append(t.Context(), storetest.To("order-1", eventstore.New, e))
	if err != nil {
		t.Fatal(err)
	}
	var row string
	err = plain(t, path).QueryRowContext(t.Context(), "SELECT concat_ws('|', stream, position, aggregate, version, id, type, time, schema,"+
		" typeof(data), data, json_extract(data, '$.name'), datetime(time)) FROM events").Scan(&row)
	at := done.Events[0].Time
	want := "ORDERS|1|order-1|1|" + e.ID + "|created|" + at.Format("2006-01-02T15:04:05.000000Z") +
		`|1|text|{"name":"Käse"}|Käse|` + at.Format("2006-01-02 15:04:05")
	if err != nil || row != want {
		t.Fatalf("%s, %v\nwant %s", row, err, want)
	}
}

// TestHowItIsOpened holds the settings that durability rests on, and the plans
// of the queries: none may scan the table or sort.
func TestHowItIsOpened(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "events.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
		if got := s.Pragma(t, pragma); got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
	for _, plan := range s.Plans(t) {
		if strings.Contains(plan, "SCAN events") || strings.Contains(plan, "TEMP B-TREE") {
			t.Error(plan)
		}
	}
}
