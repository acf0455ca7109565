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

// failuresConfig is how the bucket is made. Functions make it if they have the
// right, and else wait for who has.
func failuresConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: failuresBucket, Description: "failed attempts, by durable, stream and position",
		TTL: failuresKept, Replicas: replicas,
	}
}

// counter counts by position.
type counter struct {
	js     jetstream.JetStream
	prefix string

	mu    sync.Mutex
	kv    jetstream.KeyValue
	local map[uint64]int // while the bucket can't be used
}

// maxLocal bounds what is counted in this process.
const maxLocal = 10_000

// newCounter counts under a name of dot-separated parts.
func newCounter(js jetstream.JetStream, name string) *counter {
	return &counter{js: js, prefix: name + "."}
}

func (c *counter) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kv != nil {
		return c.kv, nil
	}
	kv, err := c.js.KeyValue(ctx, failuresBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = c.js.CreateOrUpdateKeyValue(ctx, failuresConfig(1))
	}
	if err != nil {
		return nil, err
	}
	c.kv = kv
	return kv, nil
}

// add counts one failure of a message, and answers how many that makes; with an
// error, how many this process knows of. One process at a time has the message
// in hand, so there is no one to race with.
func (c *counter) add(ctx context.Context, position uint64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	n, err := c.count(ctx, position)
	if err != nil {
		// The bucket went with its server's storage: look for it anew.
		c.mu.Lock()
		c.kv = nil
		c.mu.Unlock()
		n, err = c.count(ctx, position)
	}
	if err != nil {
		return c.addLocal(position), fmt.Errorf("count %s%d in %s: %w", c.prefix, position, failuresBucket, err)
	}
	return n, nil
}

// addLocal counts where nobody else sees it.
func (c *counter) addLocal(position uint64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local == nil || len(c.local) >= maxLocal {
		c.local = map[uint64]int{}
	}
	c.local[position]++
	return c.local[position]
}

func (c *counter) count(ctx context.Context, position uint64) (int, error) {
	kv, err := c.bucket(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	entry, err := kv.Get(ctx, c.key(position))
	switch {
	case err == nil:
		if n, err = strconv.Atoi(string(entry.Value())); err != nil {
			n = 0 // someone else wrote there
		}
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, err
	}
	n++
	if _, err := kv.Put(ctx, c.key(position), []byte(strconv.Itoa(n))); err != nil {
		return 0, err
	}
	return n, nil
}

// forget drops the count of a message that is done with.
func (c *counter) forget(ctx context.Context, position uint64) {
	c.mu.Lock()
	delete(c.local, position)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if kv, err := c.bucket(ctx); err == nil {
		// What is left behind goes with its age.
		_ = kv.Purge(ctx, c.key(position))
	}
}

func (c *counter) key(position uint64) string {
	return c.prefix + strconv.FormatUint(position, 10)
}
