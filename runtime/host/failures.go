package host

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// failuresBucket counts failed attempts, and those that began and never ended.
// It is written only on failure or suspicion, and apart from the server's
// delivery count, which a drain and a conflict raise as well. It may be lost:
// then a message is tried more often.
const (
	failuresBucket = "FAILURES"
	failuresKept   = 7 * 24 * time.Hour
)

// FailuresBucket is the bucket that counts failures. Functions make it if they
// have the right, and else wait for who has.
func FailuresBucket(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: failuresBucket, Description: "failed attempts, by durable, stream and sequence",
		TTL: failuresKept, Replicas: replicas,
	}
}

type failures struct {
	js     jetstream.JetStream
	prefix string

	mu    sync.Mutex
	kv    jetstream.KeyValue
	local map[uint64]int // while the bucket can't be used
}

// maxLocal bounds what is counted in this process.
const maxLocal = 10_000

// newFailures counts under a name of dot-separated parts.
func newFailures(js jetstream.JetStream, name string) *failures {
	return &failures{js: js, prefix: name + "."}
}

func (f *failures) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kv != nil {
		return f.kv, nil
	}
	kv, err := f.js.KeyValue(ctx, failuresBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = f.js.CreateOrUpdateKeyValue(ctx, FailuresBucket(1))
	}
	if err != nil {
		return nil, err
	}
	f.kv = kv
	return kv, nil
}

// add counts one failure of a message, and answers how many that makes; with an
// error, how many this process knows of. One process at a time has the message
// in hand, so there is no one to race with.
func (f *failures) add(ctx context.Context, sequence uint64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	n, err := f.count(ctx, sequence)
	if err != nil {
		// The bucket went with its server's storage: look for it anew.
		f.mu.Lock()
		f.kv = nil
		f.mu.Unlock()
		n, err = f.count(ctx, sequence)
	}
	if err != nil {
		return f.addLocal(sequence), fmt.Errorf("count %s%d in %s: %w", f.prefix, sequence, failuresBucket, err)
	}
	return n, nil
}

// addLocal counts where nobody else sees it.
func (f *failures) addLocal(sequence uint64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.local == nil || len(f.local) >= maxLocal {
		f.local = map[uint64]int{}
	}
	f.local[sequence]++
	return f.local[sequence]
}

func (f *failures) count(ctx context.Context, sequence uint64) (int, error) {
	kv, err := f.bucket(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	entry, err := kv.Get(ctx, f.key(sequence))
	switch {
	case err == nil:
		if n, err = strconv.Atoi(string(entry.Value())); err != nil {
			n = 0 // someone else wrote there
		}
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, err
	}
	n++
	if _, err := kv.Put(ctx, f.key(sequence), []byte(strconv.Itoa(n))); err != nil {
		return 0, err
	}
	return n, nil
}

// forget drops the count of a message that is done with.
func (f *failures) forget(ctx context.Context, sequence uint64) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if kv, err := f.bucket(ctx); err == nil {
		// What is left behind goes with its age.
		_ = kv.Purge(ctx, f.key(sequence))
	}
}

func (f *failures) key(sequence uint64) string {
	return f.prefix + strconv.FormatUint(sequence, 10)
}
