// Package eventstore is the contract of Waybill's event store: what an event
// is, what a store promises, and the errors it answers with.
//
// It holds no storage. [Store] is implemented by the backends
// (eventstore/sqlite, eventstore/postgres, and eventstore/memory for tests), and
// by the gRPC client (eventstore/rpc), and every one of them passes the same
// conformance suite (eventstore/storetest).
//
// # Streams, aggregates, positions and versions
//
// A stream is the ordered log of one kind of aggregate: ORDERS, ACCOUNTS.
// Inside a stream
//
//   - an aggregate's events have version 1, 2, 3, ... without gaps;
//   - the stream's events have position 1, 2, 3, ... without gaps, in commit
//     order;
//   - the event at position n is sequence n of the JetStream stream of the
//     same name, for ever.
//
// # Append
//
//   - Append is atomic: all of its events are stored, one after the other, or
//     none is. When it returns without an error they are on disk.
//   - The expected version must match the aggregate's, or nothing is stored
//     and the answer is a [ConflictError] that carries the actual version.
//   - It is idempotent by event id, without a time window. Ids are unique in a
//     stream. An append whose ids are all there already, on the same aggregate
//     and next to each other in the same order, stores nothing and answers
//     what the first one answered: the events as they are stored, marked as a
//     duplicate. Ids are looked at before the expected version, so a repeat
//     succeeds however far the aggregate has gone on.
//   - The content of a repeat is not compared: a retry carries another time. A
//     caller that cares compares what it sent with what is answered.
//   - Ids that are only partly there, or on another aggregate, or in another
//     order, are refused with an [IDError].
//   - An append that was refused leaves no trace, and does not disturb the
//     appends that were committed together with it.
//   - When the context ends first, the outcome is unknown: the events may be
//     stored or may still be. Appending the same ids again tells.
//
// # Reading
//
// A read sees every append that had returned before the read began. Reads
// never see a part of an append without what stands before it: positions and
// versions arrive without gaps.
//
// # Limits
//
// The limits are constants of this package, checked by [Append.Check] before
// anything is queued; each violation is an [InvalidError] that names the
// field.
package eventstore
