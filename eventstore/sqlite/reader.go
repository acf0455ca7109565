package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/waybill-go/waybill/internal/migration"
)

// Reader reads a SQLite file that another process may be writing. It has all
// that a Store reads with; ReadStream with Follow looks for what comes once a
// second. It is safe for concurrent use.
type Reader struct{ *reader }

// OpenReader opens the file at path to read it only: it takes no lock, makes
// no file and changes no table. The file must be there, with the tables of this
// release.
func OpenReader(ctx context.Context, path string) (*Reader, error) {
	r, err := openOnly(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read event store %q: %w", path, err)
	}
	return &Reader{r}, nil
}

func openOnly(ctx context.Context, path string) (*reader, error) {
	if path == "" {
		return nil, errors.New("the path is empty")
	}
	file, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if file, err = filepath.EvalSymlinks(file); err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, file); err != nil {
		return nil, err
	}
	return openReader(ctx, readOnly(file), 1)
}

// checkSchema comes before the statements are prepared, which would only say
// what they do not find.
func checkSchema(ctx context.Context, file string) error {
	db, err := sql.Open("sqlite", readOnly(file))
	if err != nil {
		return err
	}
	return errors.Join(migration.CheckSQLite(ctx, db, migration.Folder(migrations, "migrations")), db.Close())
}

// Close closes the file.
func (r *Reader) Close() error { return r.close() }
