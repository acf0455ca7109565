package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"

	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

const (
	// askTimeout is how long List waits for its numbers, for all of them together.
	askTimeout = 2 * time.Second
	// asksAtOnce is how many durables JetStream is asked for at the same time.
	asksAtOnce = 32
)

// durable names a durable consumer.
type durable struct{ stream, name string }

// durableOf is the one that an endpoint tells of; without a name if of none.
func durableOf(e micro.EndpointInfo) durable {
	return durable{e.Metadata[discovery.MetadataStream], e.Metadata[discovery.MetadataDurable]}
}

// waiting is how many events wait for a durable, and how many it delivered that
// are not yet done.
type waiting struct {
	lag    uint64
	inHand int
	never  bool // nobody made the durable yet
}

// durables are those of all that runs, and of what is expected to, each once, with
// the filter of what will begin at its stream's first event. An instance tells of
// its own, and a supervisor of those it looks after.
func durables(instances []discovery.Instance, expected []function.Function) map[durable]string {
	all := map[durable]string{}
	for _, i := range instances {
		for _, e := range i.Endpoints {
			if d := durableOf(e); d.name != "" {
				all[d] = ""
			}
		}
	}
	for _, f := range expected {
		for _, d := range host.DurablesOf(f) {
			filter := ""
			if d.Config.DeliverPolicy == jetstream.DeliverAllPolicy {
				filter = d.Config.FilterSubject
			}
			all[durable{d.Stream, f.Name}] = filter
		}
	}
	return all
}

// askJetStream asks what waits for each durable. What has no answer when ctx ends
// is left out.
func askJetStream(ctx context.Context, js jetstream.JetStream, asked map[durable]string) map[durable]waiting {
	var (
		mu     sync.Mutex
		answer = map[durable]waiting{}
		all    errgroup.Group
	)
	all.SetLimit(asksAtOnce)
	for d, filter := range asked {
		all.Go(func() error {
			waits, err := ask(ctx, js, d, filter)
			if err != nil {
				return nil // nobody answers for it, or it is not there
			}
			mu.Lock()
			defer mu.Unlock()
			answer[d] = waits
			return nil
		})
	}
	_ = all.Wait() // none of them has an error
	return answer
}

// ask asks what waits for a durable; of one that nobody made yet, what its filter
// will bring.
func ask(ctx context.Context, js jetstream.JetStream, d durable, filter string) (waiting, error) {
	consumer, err := js.Consumer(ctx, d.stream, d.name)
	if err == nil {
		info := consumer.CachedInfo()
		return waiting{lag: info.NumPending, inHand: info.NumAckPending}, nil
	}
	if filter == "" || !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return waiting{}, err
	}
	stream, err := js.Stream(ctx, d.stream)
	if err != nil {
		return waiting{}, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return waiting{}, err
	}
	waits := waiting{never: true}
	for _, n := range info.State.Subjects {
		waits.lag += n
	}
	return waits, nil
}

// unresolvedLetters asks how many dead letters of each function are unresolved.
func unresolvedLetters(ctx context.Context, nc *nats.Conn) (map[string]int, error) {
	m, err := nc.RequestWithContext(ctx, deadletter.SubjectList, []byte(`{"limit":1}`))
	if err != nil {
		return nil, fmt.Errorf("ask for dead letters: %w", err)
	}
	if no := host.Refused(m); no != nil {
		return nil, fmt.Errorf("ask for dead letters: %w", no)
	}
	var listed deadletter.Listed
	if err := json.Unmarshal(m.Data, &listed); err != nil {
		return nil, fmt.Errorf("ask for dead letters: %w", err)
	}
	return listed.Unresolved, nil
}
