// Package rpc is the façade of an event store over gRPC: a server in front of
// any eventstore.Store, and a client that is one.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/waybill-go/waybill/eventstore"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

// The server's bounds.
const (
	// maxMessage holds an append of the greatest size with its overhead.
	maxMessage = eventstore.MaxAppendBytes + 1<<20
	maxStreams = 4096 // calls at once on one connection
	pageEvents = 500
	pageBytes  = 1 << 20
	// A caller's host that vanished is noticed within these two together, so
	// that its reads don't linger.
	idleTime  = time.Minute
	idleGrace = 20 * time.Second
)

// Server serves an event store.
type Server struct {
	pb.UnimplementedEventStoreServer
	store  eventstore.Store
	access Access
	log    *slog.Logger
	grpc   *grpc.Server
	health *health.Server

	stop     sync.Once
	stopping chan struct{} // closed by Stop: calls of AppendMany come to their end
}

// NewServer makes the façade of a store, with gRPC's health and reflection
// services; health is NOT_SERVING until [Server.Ready]. log may be nil. The
// options are added to its own.
func NewServer(store eventstore.Store, access Access, log *slog.Logger, options ...grpc.ServerOption) *Server {
	if log == nil {
		log = slog.Default()
	}
	s := &Server{store: store, access: access, log: log, health: health.NewServer(), stopping: make(chan struct{})}
	s.grpc = grpc.NewServer(append(append(access.options(), options...),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: idleTime, Timeout: idleGrace}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream),
	)...)
	pb.RegisterEventStoreServer(s.grpc, s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	s.tell(healthpb.HealthCheckResponse_NOT_SERVING)
	reflection.Register(s.grpc)
	return s
}

// Ready has health be SERVING from now on, until Stop. Calls are answered
// before, too: health is for who decides whether this server is worth keeping.
func (s *Server) Ready() { s.tell(healthpb.HealthCheckResponse_SERVING) }

// tell sets the health of the server, and of its one service.
func (s *Server) tell(now healthpb.HealthCheckResponse_ServingStatus) {
	for _, service := range []string{"", pb.EventStore_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, now)
	}
}

// Serve takes calls until Stop.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve event store: %w", err)
	}
	return nil
}

// Stop takes no more calls, and returns when those under way are answered, or
// broken off because ctx ended.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.stop.Do(func() { close(s.stopping) })
	done := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	defer func() { err = s.outcome(info.FullMethod, recover(), err) }()
	if err := s.access.allow(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() { err = s.outcome(info.FullMethod, recover(), err) }()
	if err := s.access.allow(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(srv, stream)
}

// outcome turns an error, or a panic, into what the caller may see. The rest
// is in the log, under the id that the caller sees.
func (s *Server) outcome(method string, panicked any, err error) error {
	if panicked != nil {
		err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
	}
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	st := toStatus(err)
	switch st.Code() {
	case codes.Internal:
		id := uuid.NewString()
		s.log.Error("call failed", "method", method, "error_id", id, "error", err)
		return status.Error(codes.Internal, errInternal.Error()+" "+id)
	case codes.Unavailable, codes.DeadlineExceeded:
		s.log.Warn("call failed", "method", method, "error", err)
	}
	return st.Err()
}

// Append implements the service.
func (s *Server) Append(ctx context.Context, req *pb.AppendRequest) (*pb.AppendResponse, error) {
	done, err := s.append(ctx, req)
	if err != nil {
		return nil, err
	}
	return appended(done), nil
}

func (s *Server) append(ctx context.Context, req *pb.AppendRequest) (eventstore.Appended, error) {
	events, invalid := fromProto(req.GetEvents())
	if invalid != nil {
		return eventstore.Appended{}, invalid
	}
	return s.store.Append(ctx, eventstore.Append{
		Stream: req.GetStream(), Aggregate: req.GetAggregate(),
		Expected: eventstore.Expected(req.GetExpectedVersion()), Events: events,
	})
}

func appended(done eventstore.Appended) *pb.AppendResponse {
	return &pb.AppendResponse{Events: toProto(done.Events), Duplicate: done.Duplicate}
}

// ReadAggregate implements the service.
func (s *Server) ReadAggregate(ctx context.Context, req *pb.ReadAggregateRequest) (*pb.ReadAggregateResponse, error) {
	var page []eventstore.Event
	size := 0
	for e, err := range s.store.ReadAggregate(ctx, eventstore.AggregateRead{
		Stream: req.GetStream(), Aggregate: req.GetAggregate(), From: req.GetFromVersion(), Last: int(req.GetLast()),
	}) {
		if err != nil {
			return nil, err
		}
		if len(page) > 0 && (len(page) >= pageEvents || size+e.Size() > pageBytes) {
			return &pb.ReadAggregateResponse{Events: toProto(page), More: true}, nil
		}
		page = append(page, e)
		size += e.Size()
	}
	return &pb.ReadAggregateResponse{Events: toProto(page)}, nil
}

// ReadStream implements the service.
func (s *Server) ReadStream(req *pb.ReadStreamRequest, stream pb.EventStore_ReadStreamServer) error {
	if req.GetLimit() > math.MaxInt32 {
		return &eventstore.InvalidError{Field: "limit", Reason: "is too large"}
	}
	r := eventstore.StreamRead{
		Stream: req.GetStream(), From: req.GetFromPosition(), Limit: int(req.GetLimit()), //nolint:gosec // checked above
		Types: req.GetTypes(), Follow: req.GetFollow(),
	}
	send := func(page []eventstore.Event) error {
		if len(page) == 0 {
			return nil
		}
		return stream.Send(&pb.ReadStreamResponse{Events: toProto(page)})
	}
	if r.Follow {
		return s.follow(stream.Context(), r, send)
	}
	var page []eventstore.Event
	size := 0
	for e, err := range s.store.ReadStream(stream.Context(), r) {
		if err != nil {
			return err
		}
		if len(page) >= pageEvents || size+e.Size() > pageBytes {
			if err := send(page); err != nil {
				return err
			}
			page, size = page[:0], 0
		}
		page = append(page, e)
		size += e.Size()
	}
	return send(page)
}

// aheadEvents is how far the store is read ahead of a reader that follows. One
// that is slow holds no more than these, and the page on its way.
const aheadEvents = 16

// follow sends events as they come: as many in one message as there are.
func (s *Server) follow(ctx context.Context, r eventstore.StreamRead, send func([]eventstore.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	ahead, failed := make(chan eventstore.Event, aheadEvents), make(chan error, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer close(ahead)
		for e, err := range s.store.ReadStream(ctx, r) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case ahead <- e:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
		failed <- nil // the limit is reached
	})
	for {
		select {
		case <-s.stopping: // the reader goes on at another façade
			return fmt.Errorf("follow %s: stopping: %w", r.Stream, eventstore.ErrUnavailable)
		case e, more := <-ahead:
			if !more {
				return <-failed
			}
			if err := send(gather(e, ahead)); err != nil {
				return err
			}
		}
	}
}

// gather makes a page of e and what is there.
func gather(e eventstore.Event, ahead <-chan eventstore.Event) []eventstore.Event {
	page := []eventstore.Event{e}
	for size := e.Size(); len(page) < pageEvents && size < pageBytes; size += e.Size() {
		var more bool
		select {
		case e, more = <-ahead:
		default:
		}
		if !more {
			break
		}
		page = append(page, e)
	}
	return page
}
