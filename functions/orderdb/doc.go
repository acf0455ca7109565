// Package orderdb is the view of orders: what orderview keeps and
// orderquery reads. It is made of the events alone, and can be made anew of
// them at any time.
//
// # Views
//
// A view has a name, and a row in the table orders_views, its pointer: the
// generation that is in use. Generation 3 of the view orderview is the table
// orderview_3. Several views, each with its own function and durable, may be in
// one database or in several; the processes that keep one view share its work.
//
// # Apply
//
// An order goes from version to version without a gap, and its row is the fold
// of its first events. So events may come in any order and again, to any
// replica: what a row has is skipped, what it lacks is read from the log.
//
// With the orders goes the newest event, by its position, that the table has.
// Before a process applies events to a table for the first time, it looks whether
// that event is in the event store, at its place. If not, one of the two was
// restored to another moment: the view is refused, and to be rebuilt. A view that
// is only older than the events is not told apart.
//
// # Rebuild
//
// [DB.Rebuild] reads the stream from its first event and writes the next
// generation, while replicas keep the one in use and readers read it. Each
// batch of rows is one transaction with its checkpoint, the position that they
// go up to, and with the lease that keeps a second rebuild away: one that was
// broken off anywhere goes on behind its checkpoint, and one that lost its lease
// stores nothing more.
//
// At the end the generation in use changes hands. That must lose no event: one
// that a replica acknowledged because the old table has it must be in the new
// one too, or an order without a further event stays behind for ever. Events come
// to replicas out of order, so no position tells what the old table has. The
// hand-over is this, once the new table is but a few events behind:
//
//  1. The pointer is closed: that commits.
//  2. The rest of the stream is read, to its end.
//  3. One transaction stores that, and moves and opens the pointer, if it is
//     still closed as it was in 1. Otherwise nothing is stored, and the rebuild
//     catches up and tries again.
//
// A replica reads the pointer in the transaction that it applies events in, and
// applies nothing while it is closed. It had the events in hand before it read
// the pointer. When it found the pointer open before 1, its events were in the
// log before 1, so 2 reads them: wherever it stores them, even after 3, the new
// table has them. When it reads the pointer after 3, it stores them in the new
// table. Between 1 and 3 it can find the pointer open only if somebody opened it,
// and then 3 does not happen.
//
// All that is written before 3 need not be on disk: what is lost in a power cut is
// made again. The transaction of 3 waits for the disk, and the databases write
// their logs in order, so all before it is on disk when a replica sees the new
// table. From then on a replica may find an event there that the rebuild stored,
// and acknowledge it without a write of its own.
//
// A rebuild that dies between 1 and 3 leaves the pointer closed. That ends after
// some seconds: then a replica opens it. No lock is held meanwhile, and none is
// needed by a replica in its daily work.
//
// Readers name the generation in the query itself: a query of a table that is no
// longer in use answers nothing or fails, and then they look at the pointer, and
// ask again. So the old table can be dropped right away, and what readers see
// never goes back: the new table has, at the hand-over, all that the old one has.
package orderdb
