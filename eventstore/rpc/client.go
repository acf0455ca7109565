package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waybill-go/waybill/eventstore"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

const (
	// callTimeout bounds a call whose context has no deadline.
	callTimeout   = 30 * time.Second
	keepaliveTime = 20 * time.Second
	// connections is how many carry the calls: one runs out of breath at a
	// few hundred callers.
	connections = 2
)

// serviceConfig spreads calls over all façades, and repeats those that found
// none: every call of this service is safe to repeat.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "waybill.eventstore.v1.EventStore"}],
    "waitForReady": true,
    "retryPolicy": {
      "maxAttempts": 5, "initialBackoff": "0.02s", "maxBackoff": "0.5s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

// Client is an event store behind a façade. It implements eventstore.Store.
//
// A call waits for a façade until its context ends; without a deadline, 30
// seconds. When that is over and no façade was reached, the error is
// eventstore.ErrUnavailable, and the context's too.
type Client struct {
	links []link
	next  atomic.Uint32
	// timeout bounds a call whose context has no deadline.
	timeout time.Duration
	// endLife ends the pipes.
	endLife context.CancelFunc
}

var _ eventstore.Store = (*Client)(nil)

// link is one connection, and the calls on it.
type link struct {
	pb.EventStoreClient
	conn *grpc.ClientConn
	pipe *pipe
}

// Dial makes a client of the façades at target: host:port, or what a resolver
// among the options knows. It does not wait for a connection: while there is
// none calls wait, until their deadline.
func Dial(target string, opts ...grpc.DialOption) (*Client, error) {
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(connectParams),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: 5 * time.Second, PermitWithoutStream: true}),
	}, opts...)
	life, endLife := context.WithCancel(context.Background())
	c := &Client{timeout: callTimeout, endLife: endLife}
	for range connections {
		conn, err := grpc.NewClient(target, opts...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("dial event store %q: %w", target, err), c.Close())
		}
		stub := pb.NewEventStoreClient(conn)
		c.links = append(c.links, link{stub, conn, newPipe(life, stub, conn)})
	}
	return c, nil
}

// Close breaks off what is under way; it ends with ErrUnavailable, as do calls
// that come later.
func (c *Client) Close() error {
	c.endLife()
	var errs []error
	for _, l := range c.links {
		errs = append(errs, l.conn.Close())
		l.pipe.wait()
	}
	return errors.Join(errs...)
}

func (c *Client) link() link {
	return c.links[c.next.Add(1)%connections]
}

// bound gives a call without a deadline one.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

// failure makes the contract's error of a call's: ctx is its caller's.
//
// A context that ended tells nothing of the one that ended it. Where that was
// no wish of the caller's but a façade that is away, went away or kept silent,
// the error is ErrUnavailable, so that the caller keeps its work and tries
// again instead of counting a failure.
func (l link) failure(ctx context.Context, what string, err error) error {
	err = fromStatus(what, err)
	_, bounded := ctx.Deadline()
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() == nil:
		return fmt.Errorf("%s: %w: broken off", what, eventstore.ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded) && !bounded:
		return fmt.Errorf("%w: %w: no answer in time", eventstore.ErrUnavailable, err)
	case errors.Is(err, context.DeadlineExceeded) && l.conn.GetState() != connectivity.Ready:
		return fmt.Errorf("%w: %w: none reached at %s%s", eventstore.ErrUnavailable, err, l.conn.Target(), l.whyNot())
	default:
		return err
	}
}

// whyNot is why no façade was reached: a refused connection, a certificate that
// is not right, nobody found. gRPC tells it to a call that does not wait.
func (l link) whyNot() string {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := healthpb.NewHealthClient(l.conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if st := status.Convert(err); st.Code() == codes.Unavailable {
		return ": " + st.Message()
	}
	return ""
}

// answered reads events from an answer. That they can't be read is not the
// request's fault, and no InvalidError.
func answered(what string, events []*pb.Event) ([]eventstore.Event, error) {
	out, invalid := fromProto(events)
	if invalid != nil {
		return nil, fmt.Errorf("%s: read answer: %s", what, invalid.Error())
	}
	return out, nil
}

// Append implements eventstore.Store. It goes through the pipe, and where that
// has no answer by a call of its own, which waits for a façade, and repeats.
func (c *Client) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if err := a.Check(); err != nil {
		return eventstore.Appended{}, err
	}
	what, l := "append to "+a.Stream, c.link()
	bounded, cancel := c.bound(ctx)
	defer cancel()
	events := a.Stamp(time.Now())
	req := &pb.AppendRequest{
		Stream: a.Stream, Aggregate: a.Aggregate, ExpectedVersion: int64(a.Expected), Events: toProto(events),
	}
	done, err := l.appendPiped(bounded, what, req, events)
	if errors.Is(err, errPipe) || status.Code(err) == codes.Unavailable {
		done, err = l.appendCall(bounded, what, req)
	}
	if err != nil {
		return eventstore.Appended{}, l.failure(ctx, what, err)
	}
	return done, nil
}

// appendPiped fills in where the events are, which is all that is answered of
// an append that is stored now.
func (l link) appendPiped(ctx context.Context, what string, req *pb.AppendRequest, events []eventstore.Event) (eventstore.Appended, error) {
	outcome, err := l.pipe.append(ctx, req)
	if err != nil {
		return eventstore.Appended{}, err
	}
	switch r := outcome.GetResult().(type) {
	case *pb.AppendManyResponse_Outcome_Stored:
		for i := range events {
			events[i].Version = r.Stored.GetFirstVersion() + uint64(i)
			events[i].Position = r.Stored.GetFirstPosition() + uint64(i)
			events[i].Data = []byte(req.Events[i].Data) // the caller's own may be used again
		}
		return eventstore.Appended{Events: events}, nil
	case *pb.AppendManyResponse_Outcome_Repeated:
		return answeredAppend(what, r.Repeated)
	case *pb.AppendManyResponse_Outcome_Status:
		var st spb.Status
		if err := proto.Unmarshal(r.Status, &st); err == nil && st.GetCode() != int32(codes.OK) {
			return eventstore.Appended{}, status.ErrorProto(&st)
		}
	}
	return eventstore.Appended{}, fmt.Errorf("%s: read answer: it has no outcome", what)
}

func (l link) appendCall(ctx context.Context, what string, req *pb.AppendRequest) (eventstore.Appended, error) {
	reply, err := l.Append(ctx, req)
	if err != nil {
		return eventstore.Appended{}, err
	}
	return answeredAppend(what, reply)
}

func answeredAppend(what string, reply *pb.AppendResponse) (eventstore.Appended, error) {
	events, err := answered(what, reply.GetEvents())
	return eventstore.Appended{Events: events, Duplicate: reply.GetDuplicate()}, err
}

// ReadAggregate implements eventstore.Store.
func (c *Client) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		if err := r.Check(); err != nil {
			yield(eventstore.Event{}, err)
			return
		}
		left := r.Last
		for {
			page, more, err := c.page(ctx, r)
			if err != nil {
				yield(eventstore.Event{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			left -= len(page)
			if !more || len(page) == 0 || r.Last > 0 && left <= 0 {
				return
			}
			// What is behind a page of the last n is asked for by version.
			// Events that came meanwhile would be more than n: they end it.
			r.From = page[len(page)-1].Version + 1
			if r.Last > 0 {
				for e, err := range c.behind(ctx, r, left) {
					if !yield(e, err) || err != nil {
						return
					}
				}
				return
			}
		}
	}
}

// behind yields at most n events from r.From on.
func (c *Client) behind(ctx context.Context, r eventstore.AggregateRead, n int) iter.Seq2[eventstore.Event, error] {
	r.Last = 0
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range c.ReadAggregate(ctx, r) {
			if n == 0 || !yield(e, err) {
				return
			}
			n--
		}
	}
}

func (c *Client) page(ctx context.Context, r eventstore.AggregateRead) ([]eventstore.Event, bool, error) {
	what, l := fmt.Sprintf("read %s %q", r.Stream, r.Aggregate), c.link()
	bounded, cancel := c.bound(ctx)
	defer cancel()
	reply, err := l.ReadAggregate(bounded, &pb.ReadAggregateRequest{
		Stream: r.Stream, Aggregate: r.Aggregate, FromVersion: r.From, Last: uint32(r.Last), //nolint:gosec // checked
	})
	if err != nil {
		return nil, false, l.failure(ctx, what, err)
	}
	events, err := answered(what, reply.GetEvents())
	return events, reply.GetMore(), err
}

// ReadStream implements eventstore.Store. A stream that breaks off is taken up
// again where it was, as long as that goes forward; one that is followed, until
// ctx ends.
func (c *Client) ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		if err := r.Check(); err != nil {
			yield(eventstore.Event{}, err)
			return
		}
		wait := backoff.NewExponentialBackOff()
		wait.InitialInterval, wait.MaxInterval = 20*time.Millisecond, time.Second
		for {
			got, last, err := c.readOnce(ctx, r, yield)
			if err == nil || errors.Is(err, errLeft) {
				return
			}
			if r.Follow && ctx.Err() != nil {
				err = fmt.Errorf("follow %s: %w", r.Stream, ctx.Err())
			}
			forward := got > 0 || r.Follow
			if !forward || !errors.Is(err, eventstore.ErrUnavailable) || ctx.Err() != nil {
				yield(eventstore.Event{}, err)
				return
			}
			if got > 0 {
				r.From = last + 1
				wait.Reset()
			}
			if r.Limit > 0 {
				if r.Limit -= got; r.Limit == 0 {
					return
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait.NextBackOff()):
			}
		}
	}
}

// errLeft says that the reader wants no more.
var errLeft = errors.New("left")

// readOnce makes one call. It answers how many events it brought, and the last
// one's position.
func (c *Client) readOnce(ctx context.Context, r eventstore.StreamRead, yield func(eventstore.Event, error) bool) (got int, last uint64, err error) {
	what, l := "read "+r.Stream, c.link()
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	// Between two messages no more may pass than a call may take; but who
	// follows waits, and the connection is probed.
	watchdog := time.AfterFunc(c.timeout, cancel)
	defer watchdog.Stop()
	if r.Follow {
		watchdog.Stop()
	}
	stream, err := l.ReadStream(watched, &pb.ReadStreamRequest{
		Stream: r.Stream, FromPosition: r.From, Limit: uint64(r.Limit), //nolint:gosec // checked
		Types: r.Types, Follow: r.Follow,
	})
	if err != nil {
		return 0, 0, l.failure(ctx, what, err)
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, last, nil
		}
		if err != nil {
			return got, last, l.failure(ctx, what, err)
		}
		events, err := answered(what, reply.GetEvents())
		if err != nil {
			return got, last, err
		}
		watchdog.Stop() // the reader may take its time
		for _, e := range events {
			if !yield(e, nil) {
				return got, last, errLeft
			}
			got, last = got+1, e.Position
		}
		if !r.Follow {
			watchdog.Reset(c.timeout)
		}
	}
}
