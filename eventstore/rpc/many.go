package rpc

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waybill-go/waybill/eventstore"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

const (
	// maxUnanswered bounds the appends of one AppendMany that the store has in
	// hand. While it has that many nothing more is received, and HTTP/2 holds
	// the caller back.
	maxUnanswered = 1024
	// One message of AppendMany holds so many appends at the most, and nothing is
	// added to one of so many bytes: with the greatest append as its last it is
	// still within maxMessage.
	maxGrouped      = 256
	maxGroupedBytes = 512 << 10
)

// many is one call of AppendMany on the server: one goroutine receives, one
// hands the appends to the store, each append waits in its own, and the call's
// sends the outcomes.
type many struct {
	s        *Server
	stream   pb.EventStore_AppendManyServer
	messages chan *pb.AppendManyRequest
	outcomes chan *pb.AppendManyResponse_Outcome
	slots    chan struct{}
}

// AppendMany implements the service.
func (s *Server) AppendMany(stream pb.EventStore_AppendManyServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	m := &many{
		s: s, stream: stream,
		messages: make(chan *pb.AppendManyRequest),
		outcomes: make(chan *pb.AppendManyResponse_Outcome, maxUnanswered),
		slots:    make(chan struct{}, maxUnanswered),
	}
	received := make(chan error, 1)
	go func() { received <- m.receive(ctx) }()
	go m.dispatch(ctx)
	if err := m.send(cancel); err != nil {
		return err
	}
	select {
	case err := <-received:
		return err
	default: // stopping: nothing more is taken
		return nil
	}
}

// receive takes messages until there are no more, or ctx ends; that is at the
// end of the call at the latest.
func (m *many) receive(ctx context.Context) error {
	defer close(m.messages)
	for {
		msg, err := m.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case m.messages <- msg:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dispatch hands appends to the store until there are no more, or the server
// stops; then it waits for those in hand.
func (m *many) dispatch(ctx context.Context) {
	var inHand sync.WaitGroup
	defer func() { inHand.Wait(); close(m.outcomes) }()
	for {
		select {
		case <-m.s.stopping:
			return
		case <-ctx.Done(): // an outcome could not be sent
			return
		case msg, more := <-m.messages:
			if !more {
				return
			}
			for _, n := range msg.GetAppends() {
				select {
				case m.slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				inHand.Go(func() {
					m.outcomes <- m.s.appendNumbered(ctx, n)
					<-m.slots
				})
			}
		}
	}
}

// send sends the outcomes: as many in one message as there are. When it can't
// it cancels what is in hand.
func (m *many) send(cancel func()) error {
	var failed error
	for o := range m.outcomes {
		if failed != nil {
			continue
		}
		if failed = m.stream.Send(m.group(o)); failed != nil {
			cancel()
		}
	}
	return failed
}

// group makes a message of o and the outcomes that are there.
func (m *many) group(o *pb.AppendManyResponse_Outcome) *pb.AppendManyResponse {
	g := &pb.AppendManyResponse{Outcomes: []*pb.AppendManyResponse_Outcome{o}}
	for size := proto.Size(o); len(g.Outcomes) < maxGrouped && size < maxGroupedBytes; size += proto.Size(o) {
		var more bool
		select {
		case o, more = <-m.outcomes:
		default:
		}
		if !more {
			return g
		}
		g.Outcomes = append(g.Outcomes, o)
	}
	return g
}

// appendNumbered is Append, with its error as a part of the answer.
func (s *Server) appendNumbered(ctx context.Context, n *pb.AppendManyRequest_Numbered) *pb.AppendManyResponse_Outcome {
	if t := n.GetTimeout(); t != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.AsDuration())
		defer cancel()
	}
	outcome := &pb.AppendManyResponse_Outcome{Number: n.GetNumber()}
	done, err := s.guardedAppend(ctx, n.GetAppend())
	switch {
	case err != nil:
		st, err := proto.Marshal(status.Convert(err).Proto())
		if err != nil {
			st = nil // an empty status is an error too: unknown
		}
		outcome.Result = &pb.AppendManyResponse_Outcome_Status{Status: st}
	case done.Duplicate:
		outcome.Result = &pb.AppendManyResponse_Outcome_Repeated{Repeated: appended(done)}
	default:
		first := done.Events[0]
		outcome.Result = &pb.AppendManyResponse_Outcome_Stored{Stored: &pb.AppendManyResponse_Stored{
			FirstVersion: first.Version, FirstPosition: first.Position,
		}}
	}
	return outcome
}

// guardedAppend does for one append of many what an interceptor does for a call.
func (s *Server) guardedAppend(ctx context.Context, req *pb.AppendRequest) (done eventstore.Appended, err error) {
	defer func() { err = s.outcome(pb.EventStore_Append_FullMethodName, recover(), err) }()
	return s.append(ctx, req)
}
