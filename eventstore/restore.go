package eventstore

import (
	"fmt"
	"time"
)

// What one restore takes. It is more than an append does, to go through a copy
// quickly.
const (
	MaxRestoreEvents = 2048
	MaxRestoreBytes  = 8 << 20 // as Event.Size counts
)

// CheckStored says what of an event is not as a store answers it, as an
// [InvalidError]: it has everything that the store fills, its time is UTC and
// in whole microseconds, and what its writer gave is within the contract.
func CheckStored(e Event) error {
	if err := CheckStream(e.Stream); err != nil {
		return err
	}
	if err := e.checkStored(); err != nil {
		return err
	}
	return nil
}

func (e Event) checkStored() *InvalidError {
	if !IsID(e.Aggregate) {
		return invalidID("aggregate", e.Aggregate)
	}
	if e.Position < 1 || e.Position > MaxPosition {
		return invalid("position", "is %d; allowed are 1 to %d", e.Position, MaxPosition)
	}
	if e.Version < 1 || e.Version > MaxPosition {
		return invalid("version", "is %d; allowed are 1 to %d", e.Version, MaxPosition)
	}
	if e.Schema < 1 {
		return invalid("schema", "is %d; allowed are 1 to %d", e.Schema, MaxSchema)
	}
	if e.Time.IsZero() || e.Time.Location() != time.UTC || e.Time.Nanosecond()%1000 != 0 {
		return invalid("time", "is %s; a stored event has one in UTC, in whole microseconds", e.Time.Format(time.RFC3339Nano))
	}
	return e.check()
}

// CheckRestore says what of a restore is against the contract before the
// database is asked, as an [InvalidError]. Every implementation of Backend
// calls it first.
func CheckRestore(stream string, events []Event) error {
	if err := CheckStream(stream); err != nil {
		return err
	}
	if n := len(events); n == 0 || n > MaxRestoreEvents {
		return invalid("events", "are %d; a restore has 1 to %d", n, MaxRestoreEvents)
	}
	total := 0
	for i, e := range events {
		if err := e.checkRestore(stream, events[0].Position+uint64(i)); err != nil {
			err.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
			return err
		}
		total += e.Size()
	}
	if total > MaxRestoreBytes {
		return invalid("events", "take %d bytes; a restore has at most %d", total, MaxRestoreBytes)
	}
	return checkTwice(events)
}

// checkRestore names the field without its path, as check does.
func (e Event) checkRestore(stream string, position uint64) *InvalidError {
	if e.Stream != stream {
		return invalid("stream", "is %s; the restore is of %s", quote(e.Stream), stream)
	}
	if e.Position != position {
		return invalid("position", "is %d where %d comes", e.Position, position)
	}
	return e.checkStored()
}
