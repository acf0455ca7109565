package sqlite

import (
	"embed"
	"net/url"
	"path/filepath"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// dsn names a file for the driver, with what every connection needs and one
// option more.
func dsn(file, option, value string) string {
	q := url.Values{"_pragma": {
		"busy_timeout(5000)", // somebody looks at the file with the sqlite3 shell
		"journal_mode(WAL)",
		"synchronous(FULL)", // one fsync for each commit
		"temp_store(MEMORY)",
		"cache_size(-16384)", // KiB
		// Pages of indexes on random ids are written to the log again and again:
		// the longer it grows the fewer of them are copied back. 4000 pages, 16 MiB.
		"wal_autocheckpoint(4000)",
		"journal_size_limit(67108864)", // a log that had to grow shrinks again
	}}
	q.Add(option, value)
	return uri(file, q)
}

// readOnly names a file for connections that change nothing: neither its tables
// nor how its log is kept.
func readOnly(file string) string {
	return uri(file, url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)", "cache_size(-16384)"}})
}

func uri(file string, q url.Values) string {
	path := filepath.ToSlash(file)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/...
	}
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}
