package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/host"
)

type provisionCommand struct {
	Wait time.Duration `default:"30s" help:"How long the event store may take to make the streams."`
}

// Help is shown by provision --help.
func (provisionCommand) Help() string {
	return "Makes every function's durable, and the bucket that counts failures; then functions need no right to make any. " +
		"The streams are the event store's to make, so it must run. What is there is left as it is, and what differs " +
		"is told: run it again with each release.\n\nExample:\n\n  $ " + commandName() + " provision"
}

// provisionTimeout is how long one thing may take to be found and made.
const provisionTimeout = 5 * time.Second

// Run makes what is missing, and prints a line for everything.
func (c provisionCommand) Run(ctx context.Context, s *session, client *Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	needed := host.RelayOptions(s.settings.FeedReplicas, s.program.Functions...)
	for _, b := range needed.Buckets {
		if err := s.provisionBucket(ctx, js, b); err != nil {
			return err
		}
	}
	names := needed.Streams
	for _, o := range needed.Others {
		names = append(names, o.Config.Name)
	}
	streams, err := c.awaitStreams(ctx, s, js, names)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range s.program.Functions {
		for _, d := range host.DurablesOf(f) {
			errs = append(errs, s.provisionDurable(ctx, d, streams[d.Stream]))
		}
	}
	return errors.Join(errs...)
}

// awaitStreams waits until the event store has made every stream.
func (c provisionCommand) awaitStreams(ctx context.Context, s *session, js jetstream.JetStream, names []string) (map[string]jetstream.Stream, error) {
	began, told := time.Now(), false
	end := began.Add(c.Wait)
	streams := map[string]jetstream.Stream{}
	for _, name := range names {
		for {
			try, cancel := context.WithTimeout(ctx, provisionTimeout)
			stream, err := host.FindStream(try, js, name)
			cancel()
			if err == nil {
				streams[name] = stream
				fmt.Fprintf(s.stdout, "stream %s: there\n", name)
				break
			}
			if !told && time.Since(began) > sayWaiting/2 {
				told = true
				fmt.Fprintf(s.stdout, "stream %s: waiting for the event store, which makes it: %s run %s\n", name, commandName(), EventStore)
			}
			if time.Now().After(end) {
				return nil, fmt.Errorf("%w: the event store makes it, and did not within %v; is it running, with: %s run %s",
					err, c.Wait, commandName(), EventStore)
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return streams, nil
}

// provisionBucket makes a bucket if it is not there.
func (s *session) provisionBucket(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) error {
	ctx, cancel := context.WithTimeout(ctx, provisionTimeout)
	defer cancel()
	state := "there"
	_, err := js.KeyValue(ctx, cfg.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if _, err = js.CreateKeyValue(ctx, cfg); err == nil {
			state = "made"
		} else if errors.Is(err, jetstream.ErrBucketExists) {
			err = nil // somebody was faster
		}
	}
	if err != nil {
		return fmt.Errorf("make bucket %s: %w", cfg.Bucket, err)
	}
	fmt.Fprintf(s.stdout, "bucket %s: %s\n", cfg.Bucket, state)
	return nil
}

// provisionDurable makes a durable if it is not there. One that is there is
// left as it is: a newer release may have made it.
func (s *session) provisionDurable(ctx context.Context, d host.Durable, stream jetstream.Stream) error {
	ctx, cancel := context.WithTimeout(ctx, provisionTimeout)
	defer cancel()
	found, made, err := d.Ensure(ctx, stream)
	if err != nil {
		return err
	}
	state := "there"
	if made {
		state = "made"
	}
	if differs := d.Differences(found.CachedInfo().Config); len(differs) > 0 {
		state = "there, and left as it is: " + strings.Join(differs, ", ")
	}
	fmt.Fprintf(s.stdout, "durable %s of %s: %s\n", d.Config.Durable, d.Stream, state)
	return nil
}
