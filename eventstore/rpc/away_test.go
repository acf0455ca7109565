package rpc_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/storetest"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

// calls makes one call of each kind, and answers their errors by name.
func calls(ctx context.Context, c *rpc.Client) map[string]error {
	_, appendErr := c.Append(ctx, storetest.To("a", eventstore.Any, storetest.Event("x", "1")))
	_, aggregateErr := eventstore.Collect(c.ReadAggregate(ctx, eventstore.AggregateRead{Stream: "ORDERS", Aggregate: "a"}))
	_, streamErr := eventstore.Collect(c.ReadStream(ctx, eventstore.StreamRead{Stream: "ORDERS"}))
	return map[string]error{"append": appendErr, "aggregate": aggregateErr, "stream": streamErr}
}

// odd is a façade that answers as ours never should.
type odd struct {
	pb.UnimplementedEventStoreServer
	events []*pb.Event
	err    error
}

func (o odd) Append(context.Context, *pb.AppendRequest) (*pb.AppendResponse, error) {
	return &pb.AppendResponse{Events: o.events}, o.err
}

func (o odd) ReadAggregate(context.Context, *pb.ReadAggregateRequest) (*pb.ReadAggregateResponse, error) {
	return &pb.ReadAggregateResponse{Events: o.events}, o.err
}

func (o odd) ReadStream(_ *pb.ReadStreamRequest, stream pb.EventStore_ReadStreamServer) error {
	if o.err != nil {
		return o.err
	}
	return stream.Send(&pb.ReadStreamResponse{Events: o.events})
}

// serveRaw serves the service with nothing around it.
func serveRaw(t *testing.T, service pb.EventStoreServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterEventStoreServer(server, service)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func serveOdd(t *testing.T, o odd) *rpc.Client { t.Helper(); return client(t, serveRaw(t, o)) }

// A façade that is away is unavailable, whatever ran out while it was waited
// for: an event whose handler meets this is kept, and not counted as failed.
func TestAwayIsUnavailable(t *testing.T) {
	c := client(t, "127.0.0.1:1") // nobody there
	for what := range calls(t.Context(), client(t, "127.0.0.1:1").WithTimeout(time.Millisecond)) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := calls(ctx, c)[what]
		cancel()
		if !errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A call that the façade breaks off was not canceled by its caller.
func TestBrokenOffIsUnavailable(t *testing.T) {
	c := serveOdd(t, odd{err: status.Error(codes.Canceled, "canceled")})
	for what, err := range calls(t.Context(), c) {
		if !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Who is not let in keeps what is in hand, until the operator has mended it.
func TestNotLetInIsUnavailable(t *testing.T) {
	for _, code := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied} {
		c := serveOdd(t, odd{err: status.Error(code, "check GRPC_TOKEN")})
		for what, err := range calls(t.Context(), c) {
			if !errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), "GRPC_TOKEN") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// An answer that can't be read says nothing about the request: an InvalidError
// would have the event buried that led to it.
func TestOddAnswerIsNotTheCallersFault(t *testing.T) {
	c := serveOdd(t, odd{events: []*pb.Event{{Time: &timestamppb.Timestamp{Seconds: 1 << 60}}}})
	for what, err := range calls(t.Context(), c) {
		var invalid *eventstore.InvalidError
		if err == nil || errors.As(err, &invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// blocked is a store whose calls wait until they are let go or broken off.
type blocked struct {
	begun chan struct{}
	letGo chan struct{}
}

func newBlocked() blocked {
	return blocked{begun: make(chan struct{}, 8), letGo: make(chan struct{})}
}

func (b blocked) wait(ctx context.Context) error {
	b.begun <- struct{}{}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-b.letGo:
		return nil
	}
}

func (b blocked) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return eventstore.Appended{Events: a.Events}, b.wait(ctx)
}

func (b blocked) read(ctx context.Context) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		if err := b.wait(ctx); err != nil {
			yield(eventstore.Event{}, err)
		}
	}
}

func (b blocked) ReadAggregate(ctx context.Context, _ eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return b.read(ctx)
}

func (b blocked) ReadStream(ctx context.Context, _ eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	return b.read(ctx)
}

// A store that is slow, behind a façade that is there, is no outage: the
// caller's deadline is what ended the call, and it ends it in the store too.
func TestSlowIsNoOutage(t *testing.T) {
	_, address := serve(t, newBlocked(), "127.0.0.1:0")
	c := client(t, address)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := c.Append(ctx, storetest.To("a", eventstore.Any, storetest.Event("x", "1")))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// A call without a deadline ends nevertheless.
func TestNoCallHangsForEver(t *testing.T) {
	_, address := serve(t, newBlocked(), "127.0.0.1:0")
	for what, err := range calls(context.Background(), client(t, address).WithTimeout(50*time.Millisecond)) {
		if !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestStopWaitsForCallsUnderWay(t *testing.T) {
	for _, c := range []struct {
		name    string
		patient bool
		want    error
	}{
		{"answered", true, nil},
		{"broken off", false, eventstore.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newBlocked()
			server, address := serve(t, store, "127.0.0.1:0")
			cl := client(t, address).WithTimeout(2 * time.Second)
			answered := make(chan error, 1)
			go func() {
				_, err := cl.Append(context.Background(), storetest.To("a", eventstore.Any, storetest.Event("x", "1")))
				answered <- err
			}()
			<-store.begun
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopped := make(chan struct{})
			go func() { server.Stop(ctx); close(stopped) }()
			if c.patient {
				close(store.letGo)
			} else {
				cancel()
			}
			<-stopped
			if err := <-answered; !errors.Is(err, c.want) {
				t.Fatal(err)
			}
		})
	}
}

// TestFollowerGoesOn has the façade go while one follows: it stops in order, and
// the reader goes on where it was when there is one again.
func TestFollowerGoesOn(t *testing.T) {
	store := backend(t)
	server, address := serve(t, store, "127.0.0.1:0")
	c := client(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	positions := make(chan uint64, 1)
	ended := make(chan error, 1)
	go func() {
		for e, err := range c.ReadStream(ctx, eventstore.StreamRead{Stream: storetest.Stream, Follow: true}) {
			if err != nil {
				ended <- err
				return
			}
			positions <- e.Position
		}
	}()
	next := uint64(1)
	for range 4 {
		for range 20 {
			if _, err := store.Append(t.Context(), storetest.To("a", eventstore.Any, storetest.Event("x", "1"))); err != nil {
				t.Fatal(err)
			}
			select {
			case at := <-positions:
				if at != next {
					t.Fatalf("position %d, want %d", at, next)
				}
				next++
			case err := <-ended:
				t.Fatal(err)
			}
		}
		server.Stop(ctx) // does not wait for those who follow
		server, _ = serve(t, store, address)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
