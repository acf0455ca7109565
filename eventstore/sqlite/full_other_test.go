//go:build !unix

package sqlite_test

import (
	"errors"

	"github.com/waybill-go/waybill/eventstore/sqlite"
)

func fullDisk(*sqlite.Store) error { return errors.ErrUnsupported }
