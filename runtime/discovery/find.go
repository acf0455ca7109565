package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const (
	// Answers come within one round trip of each other; who is slower than
	// this is not there.
	answerGap  = 100 * time.Millisecond
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
		if s, ok := byID[info.ID]; ok { // else it stopped between the questions
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

// ask puts a question to all and gathers the answers until they stop coming.
func ask[A any](ctx context.Context, nc *nats.Conn, verb micro.Verb, name string) ([]A, error) {
	subject, err := micro.ControlSubject(verb, name, "")
	if err != nil {
		return nil, fmt.Errorf("ask for services: %w", err)
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask for services: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, fmt.Errorf("ask for services: %w", err)
	}
	var answers []A
	wait := answerWait
	for len(answers) < maxAnswers {
		m, err := next(ctx, sub, wait)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("ask for services: %w", ctx.Err())
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return answers, nil
		case err != nil:
			return nil, fmt.Errorf("ask for services: %w", err)
		}
		if len(m.Data) == 0 && m.Header.Get("Status") != "" {
			return answers, nil // no responders
		}
		var a A
		if json.Unmarshal(m.Data, &a) == nil { // anyone may answer; nonsense is passed over
			answers = append(answers, a)
		}
		wait = answerGap
	}
	return answers, nil
}

func next(ctx context.Context, sub *nats.Subscription, wait time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}
