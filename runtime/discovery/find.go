package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const (
	// Answers come within one round trip of each other; who is slower than
	// this, on a machine that has much to do, is not there.
	answerGap  = 250 * time.Millisecond
	answerWait = time.Second
	maxAnswers = 10_000
)

// Instance is one running instance of a service.
type Instance struct {
	micro.Info
	Started time.Time
	// Stats has one entry for each of Endpoints, in the same order.
	Stats []*micro.EndpointStats
}

// Find asks who runs: every instance of the service called name, or of all
// services when name is empty; ordered by name, then by when they started.
func Find(ctx context.Context, nc *nats.Conn, name string) ([]Instance, error) {
	infos, err := ask[micro.Info](ctx, nc, micro.InfoVerb, name)
	if err != nil {
		return nil, err
	}
	stats, err := ask[micro.Stats](ctx, nc, micro.StatsVerb, name)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]micro.Stats, len(stats))
	for _, s := range stats {
		byID[s.ID] = s
	}
	var all []Instance
	for _, info := range infos {
		// Else it stopped between the questions, or is none of ours.
		if s, ok := byID[info.ID]; ok && len(s.Endpoints) == len(info.Endpoints) {
			all = append(all, Instance{Info: info, Started: s.Started, Stats: s.Endpoints})
		}
	}
	slices.SortFunc(all, func(a, b Instance) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Started.Compare(b.Started)
	})
	return all, nil
}

// Running asks who runs of the service called name, and nothing of what they did:
// one right is enough, to publish to $SRV.INFO.name.
func Running(ctx context.Context, nc *nats.Conn, name string) ([]micro.Info, error) {
	return ask[micro.Info](ctx, nc, micro.InfoVerb, name)
}

// ask puts a question to all and gathers the answers until they stop coming.
func ask[A any](ctx context.Context, nc *nats.Conn, verb micro.Verb, name string) ([]A, error) {
	var all []A
	for a, err := range answers[A](ctx, nc, verb, name) {
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// answers puts a question to all and yields each answer as it comes, until
// they stop coming.
func answers[A any](ctx context.Context, nc *nats.Conn, verb micro.Verb, name string) iter.Seq2[A, error] {
	return func(yield func(A, error) bool) {
		var none A
		sub, err := question(nc, verb, name)
		if err != nil {
			yield(none, fmt.Errorf("ask for services: %w", err))
			return
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
		wait := answerWait
		for range maxAnswers {
			m, err := next(ctx, sub, wait)
			switch {
			case ctx.Err() != nil:
				yield(none, fmt.Errorf("ask for services: %w", ctx.Err()))
				return
			case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
				return
			case err != nil:
				yield(none, fmt.Errorf("ask for services: %w", err))
				return
			}
			var a A
			if json.Unmarshal(m.Data, &a) == nil { // anyone may answer; nonsense is passed over
				if !yield(a, nil) {
					return
				}
			}
			wait = answerGap
		}
	}
}

func question(nc *nats.Conn, verb micro.Verb, name string) (*nats.Subscription, error) {
	subject, err := micro.ControlSubject(verb, name, "")
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		_ = sub.Unsubscribe() // fails only on a closed connection
		return nil, err
	}
	return sub, nil
}

func next(ctx context.Context, sub *nats.Subscription, wait time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}
