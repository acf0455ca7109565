// Package transfer copies a stream from any backend to any other, by way of a
// file: [Export] writes it, [Import] reads it. What arrives is what was there,
// to the byte: positions, versions, ids, times, and how far each function had
// come.
//
// # The file
//
// It is JSON, line by line:
//
//	{"waybill_export":1,"stream":"ORDERS","head":2,"durables":[{"name":"payment","config":{...},"floor":2}]}
//	{"stream":"ORDERS","position":1,"aggregate":"o1","version":1,"id":"...","type":"created",...,"data":{...}}
//	{"stream":"ORDERS","position":2,"aggregate":"o1","version":2,"id":"...","type":"paymentdebited",...,"data":{...}}
//	{"events":2,"checksum":"sha256:..."}
//
// The events are eventstore.Event's JSON, in the order of their positions, from
// 1 to the head, with their data as they are stored. Data that begins or ends
// with white space, or has line breaks in it, is the string "data_text" in place
// of "data". A file without its last line was cut short.
//
// The checksum is the SHA-256 of each event's position (8 bytes, big endian),
// id, and data, in this order; id and data each behind its length in bytes
// (8 bytes, big endian).
package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"iter"

	"github.com/waybill-go/waybill/eventstore"
)

// Source is what a stream is exported from: a backend, or what only reads one.
type Source interface {
	ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error]
	Head(ctx context.Context, stream string) (uint64, error)
	Durables(ctx context.Context, stream string) ([]eventstore.Durable, error)
}

// Summary is what became of an export or an import.
type Summary struct {
	Stream string
	// Events are the stream's, all that are in the file.
	Events uint64
	// Stored are those of them that an import stored; the others were there.
	Stored uint64
	// Checksum is the file's, "sha256:" and 64 hex digits.
	Checksum string
}

// Progress is told how much of the work is done, of how much; now and then, and
// at the end. It may be nil.
type Progress func(done, total uint64)

// tellEvery is how many events are between two calls of a Progress.
const tellEvery = 1024

func (p Progress) tell(done, total uint64) {
	if p != nil && (done%tellEvery == 0 || done == total) {
		p(done, total)
	}
}

// checksum is what is computed over events, one after the other.
type checksum struct{ hash.Hash }

func newChecksum() checksum { return checksum{sha256.New()} }

func (c checksum) add(e *eventstore.Event) {
	head := make([]byte, 0, 24+len(e.ID))
	head = binary.BigEndian.AppendUint64(head, e.Position)
	head = binary.BigEndian.AppendUint64(head, uint64(len(e.ID)))
	head = append(head, e.ID...)
	head = binary.BigEndian.AppendUint64(head, uint64(len(e.Data)))
	_, _ = c.Write(head) // a hash never fails
	_, _ = c.Write(e.Data)
}

func (c checksum) String() string { return "sha256:" + hex.EncodeToString(c.Sum(nil)) }
