package sqlite_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

func openReader(t *testing.T, path string) *sqlite.Reader {
	t.Helper()
	r, err := sqlite.OpenReader(t.Context(), path)
	return storetest.Opened(t, r, err)
}

// TestReaderBesideAWriter reads what a store writes meanwhile, and after it has
// gone.
func TestReaderBesideAWriter(t *testing.T) {
	path := file(t)
	s := open(t, path)
	appendAll(t, s, appends("x"), nil)
	durables := []eventstore.Durable{{Name: "payment", Config: []byte(`{}`), Floor: 7}}
	if err := s.SaveDurables(t.Context(), storetest.Stream, durables); err != nil {
		t.Fatal(err)
	}
	r := openReader(t, path)
	want := storetest.Consistent(t, t.Context(), s, storetest.Stream)
	check := func(r *sqlite.Reader) {
		t.Helper()
		events, err := eventstore.Collect(r.ReadStream(t.Context(), eventstore.StreamRead{Stream: storetest.Stream}))
		if err != nil || !reflect.DeepEqual(events, want) {
			t.Fatalf("got %+v, %v\nwant %+v", events, err, want)
		}
		if head, err := r.Head(t.Context(), storetest.Stream); err != nil || head != uint64(len(want)) {
			t.Fatalf("head %d, %v; want %d", head, err, len(want))
		}
		if saved, err := r.Durables(t.Context(), storetest.Stream); err != nil || !reflect.DeepEqual(saved, durables) {
			t.Fatalf("durables %+v, %v", saved, err)
		}
	}
	check(r)
	appendAll(t, s, appends("y"), nil)
	want = storetest.Consistent(t, t.Context(), s, storetest.Stream)
	check(r)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := openReader(t, path)
	check(last)
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Fatalf("the file was changed, %v", err)
	}
	appendAll(t, open(t, path), appends("z"), nil)
}

// TestReaderOfACrashedStore reads what a store left that never closed its file.
func TestReaderOfACrashedStore(t *testing.T) {
	path, left := file(t), filepath.Join(t.TempDir(), "left.db")
	s := open(t, path)
	appendAll(t, s, appends("x"), nil)
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(left+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	events, err := eventstore.Collect(openReader(t, left).ReadStream(t.Context(), eventstore.StreamRead{Stream: storetest.Stream}))
	if err != nil || len(events) != 20 {
		t.Fatalf("%d events, %v; want 20", len(events), err)
	}
}

func TestWhatAReaderRefuses(t *testing.T) {
	folder := t.TempDir()
	newer, empty := filepath.Join(folder, "newer.db"), filepath.Join(folder, "empty.db")
	s, err := sqlite.Open(t.Context(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := plain(t, newer).ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, word := range map[string]string{
		"":                                     "empty",
		filepath.Join(folder, "none.db"):       "no such file",
		filepath.Join(folder, "no", "none.db"): "no such file",
		newer:                                  "schema 99999",
		empty:                                  "schema 0",
		folder:                                 "I/O error",
	} {
		if _, err := sqlite.OpenReader(t.Context(), path); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want %q", path, err, word)
		}
	}
	for _, none := range []string{"none.db", "no"} {
		if _, err := os.Stat(filepath.Join(folder, none)); !os.IsNotExist(err) {
			t.Errorf("%s was made: %v", none, err)
		}
	}
}
