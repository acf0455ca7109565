package telemetry

import "sync/atomic"

// Connection counts what happens to a process's connection to NATS. Its zero
// value is ready.
type Connection struct {
	Disconnects, Reconnects atomic.Uint64
	// LameDucks are servers that said that they are about to stop.
	LameDucks atomic.Uint64
	// SlowConsumers are times that messages were dropped because they came faster
	// than they were taken.
	SlowConsumers atomic.Uint64
	// Errors are all others that NATS tells of: a permission, a subscription.
	Errors atomic.Uint64
}
