package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func backend(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	return storetest.Opened(t, s, err)
}

// serve serves a store on address until the test ends or the server is stopped.
func serve(t testing.TB, store eventstore.Store, address string) (*rpc.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(store, rpc.Access{}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Stop(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return server, l.Addr().String()
}

func client(t testing.TB, address string) *rpc.Client {
	t.Helper()
	c, err := rpc.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func raw(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) eventstore.Store {
		_, address := serve(t, backend(t), "127.0.0.1:0")
		return client(t, address)
	})
}

// failing is a store that answers with an error, or panics.
type failing struct {
	err      error
	panicked any
}

func (f failing) fail() error {
	if f.panicked != nil {
		panic(f.panicked)
	}
	return f.err
}

func (f failing) Append(context.Context, eventstore.Append) (eventstore.Appended, error) {
	return eventstore.Appended{}, f.fail()
}

func (f failing) ReadAggregate(context.Context, eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) { yield(eventstore.Event{}, f.fail()) }
}

func (f failing) ReadStream(context.Context, eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) { yield(eventstore.Event{}, f.fail()) }
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	conflict := &eventstore.ConflictError{Stream: "ORDERS", Aggregate: "a", Expected: eventstore.Any, Actual: 1 << 60}
	taken := &eventstore.IDError{Stream: "ORDERS", ID: "i", Aggregate: "b", Reason: "because"}
	invalid := &eventstore.InvalidError{Field: "events[3].id", Reason: "is wrong"}
	for _, c := range []struct {
		name string
		err  error
		code codes.Code
		same func(error) bool
	}{
		{"conflict", fmt.Errorf("x: %w", conflict), codes.Aborted, func(err error) bool {
			var e *eventstore.ConflictError
			return errors.As(err, &e) && *e == *conflict
		}},
		{"taken", taken, codes.AlreadyExists, func(err error) bool {
			var e *eventstore.IDError
			return errors.As(err, &e) && *e == *taken
		}},
		{"invalid", invalid, codes.InvalidArgument, func(err error) bool {
			var e *eventstore.InvalidError
			return errors.As(err, &e) && *e == *invalid
		}},
		{"overloaded", fmt.Errorf("x: %w", eventstore.ErrOverloaded), codes.ResourceExhausted, func(err error) bool { return errors.Is(err, eventstore.ErrOverloaded) }},
		{"unavailable", fmt.Errorf("secret: %w", eventstore.ErrUnavailable), codes.Unavailable, func(err error) bool {
			return errors.Is(err, eventstore.ErrUnavailable) && !strings.Contains(err.Error(), "secret")
		}},
		{"canceled, but not by the caller", context.Canceled, codes.Canceled, func(err error) bool { return errors.Is(err, eventstore.ErrUnavailable) }},
		{"deadline", context.DeadlineExceeded, codes.DeadlineExceeded, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{"unknown", errors.New("secret"), codes.Internal, func(err error) bool { return !strings.Contains(err.Error(), "secret") }},
		{"panic", nil, codes.Internal, func(err error) bool { return !strings.Contains(err.Error(), "secret") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := failing{err: c.err}
			if c.err == nil {
				store.panicked = "secret"
			}
			_, address := serve(t, store, "127.0.0.1:0")
			cl := client(t, address)
			for what, err := range calls(t.Context(), cl) {
				if err == nil || !c.same(err) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err := pb.NewEventStoreClient(raw(t, address)).Append(t.Context(), &pb.AppendRequest{})
			if status.Code(err) != c.code {
				t.Errorf("code %v, want %v", status.Code(err), c.code)
			}
		})
	}
}

func TestMalformedCallsEndNothing(t *testing.T) {
	_, address := serve(t, backend(t), "127.0.0.1:0")
	stub := pb.NewEventStoreClient(raw(t, address))
	for name, req := range map[string]*pb.AppendRequest{
		"nothing":     {},
		"no events":   {Stream: "ORDERS", Aggregate: "a"},
		"empty event": {Stream: "ORDERS", Aggregate: "a", Events: []*pb.Event{{}}},
		"bad time":    {Stream: "ORDERS", Aggregate: "a", Events: []*pb.Event{{Id: "i", Type: "x", Data: "1", Time: &timestamppb.Timestamp{Seconds: 1 << 60}}}},
		"huge schema": {Stream: "ORDERS", Aggregate: "a", Events: []*pb.Event{{Id: "i", Type: "x", Data: "1", Schema: 1 << 31}}},
		"no JSON":     {Stream: "ORDERS", Aggregate: "a", Events: []*pb.Event{{Id: "i", Type: "x", Data: "{"}}},
		"negative":    {Stream: "ORDERS", Aggregate: "a", ExpectedVersion: -5, Events: []*pb.Event{{Id: "i", Type: "x", Data: "1"}}},
	} {
		_, err := stub.Append(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	huge := &pb.AppendRequest{Stream: "ORDERS", Aggregate: "a", Events: []*pb.Event{{Id: "i", Type: "x", Data: strings.Repeat("x", 8<<20)}}}
	if _, err := stub.Append(t.Context(), huge); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("8 MiB: %v", err)
	}
	if _, err := stub.ReadAggregate(t.Context(), &pb.ReadAggregateRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("read of nothing: %v", err)
	}
	if _, err := client(t, address).Append(t.Context(), storetest.To("a", eventstore.New, storetest.Event("x", "1"))); err != nil {
		t.Fatalf("after all that: %v", err)
	}
}

func TestHealthAndReflection(t *testing.T) {
	server, address := serve(t, backend(t), "127.0.0.1:0")
	conn := raw(t, address)
	is := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", pb.EventStore_ServiceDesc.ServiceName} {
			health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || health.GetStatus() != want {
				t.Fatalf("health of %q: %v, %v; want %v", service, health, err, want)
			}
		}
	}
	is(healthpb.HealthCheckResponse_NOT_SERVING)
	server.Ready()
	is(healthpb.HealthCheckResponse_SERVING)
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil || !strings.Contains(fmt.Sprint(reply), "waybill.eventstore.v1.EventStore") {
		t.Fatalf("reflection: %v, %v", reply, err)
	}
}

// TestFacadeComesBack stops the façade under its callers and starts another at
// the same address: no call fails, since each may be repeated.
func TestFacadeComesBack(t *testing.T) {
	store := backend(t)
	server, address := serve(t, store, "127.0.0.1:0")
	c := client(t, address)
	var wg sync.WaitGroup
	const callers, calls = 4, 60
	halfway := make(chan struct{})
	var once sync.Once
	for w := range callers {
		wg.Go(func() {
			for i := range calls {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				_, err := c.Append(ctx, storetest.To(fmt.Sprintf("a%d", w), eventstore.Exactly(uint64(i)), storetest.Event("x", "1")))
				cancel()
				if err != nil {
					t.Errorf("caller %d, call %d: %v", w, i, err)
					return
				}
				if i == calls/2 {
					once.Do(func() { close(halfway) })
				}
			}
		})
	}
	<-halfway
	now, cancel := context.WithCancel(t.Context())
	cancel()
	server.Stop(now)
	serve(t, store, address)
	wg.Wait()
	if n := len(storetest.Consistent(t, t.Context(), store, storetest.Stream)); n != callers*calls {
		t.Fatalf("%d events, want %d", n, callers*calls)
	}
}

func TestDeadlineIsHonoured(t *testing.T) {
	c := client(t, "127.0.0.1:1") // nobody there
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := c.Append(ctx, storetest.To("a", eventstore.Any, storetest.Event("x", "1")))
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatal(err)
	}
}
