package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

const (
	// pipeAge is how long one call of AppendMany is used. The next one may go to
	// another façade: so a new one gets its share.
	pipeAge = 15 * time.Second
	// reopenAfter keeps a façade that breaks calls off from being called at
	// once again; older ones don't know AppendMany at all.
	reopenAfter   = 100 * time.Millisecond
	unknownToThem = time.Minute
)

// errPipe says that an append has no outcome from the pipe. It may be stored.
var errPipe = errors.New("the pipe is gone")

// pipe carries the appends of a link's callers over one call of AppendMany.
// It is the fast way and not the only one: while there is none, and for an
// append that one broke off with, the caller makes a call of its own. That one
// waits for a façade and repeats, so the pipe need not.
type pipe struct {
	stub    pb.EventStoreClient
	conn    *grpc.ClientConn
	age     time.Duration   // of a call; pipeAge
	life    context.Context //nolint:containedctx // the client's: ends with Close
	running sync.WaitGroup

	mu      sync.Mutex
	now     *pipeCall // nil: none is open
	opening bool
	again   time.Time // none is opened before
}

// pipeCall is one call of AppendMany.
type pipeCall struct {
	stream pb.EventStore_AppendManyClient
	cancel context.CancelFunc
	queue  chan *pb.AppendManyRequest_Numbered
	opened time.Time

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *pb.AppendManyResponse_Outcome
	retired bool          // takes no more
	drained chan struct{} // closed when retired, and all are answered
	ended   chan struct{} // closed when no outcome will come any more
}

func newPipe(life context.Context, stub pb.EventStoreClient, conn *grpc.ClientConn) *pipe {
	return &pipe{life: life, stub: stub, conn: conn, age: pipeAge}
}

// wait returns when all of its calls have ended, which life's end brings.
func (p *pipe) wait() {
	p.mu.Lock()   // whoever opens one now has seen the end of life
	p.mu.Unlock() //nolint:staticcheck // see above
	p.running.Wait()
}

// append answers errPipe when it has no outcome, or the context's error.
func (p *pipe) append(ctx context.Context, req *pb.AppendRequest) (*pb.AppendManyResponse_Outcome, error) {
	c := p.call()
	if c == nil {
		return nil, errPipe
	}
	n := &pb.AppendManyRequest_Numbered{Append: req}
	if deadline, ok := ctx.Deadline(); ok {
		n.Timeout = durationpb.New(time.Until(deadline))
	}
	answer, ok := c.register(n)
	if !ok {
		return nil, errPipe
	}
	defer c.forget(n.Number)
	select {
	case c.queue <- n:
	case <-c.ended:
		return nil, errPipe
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	select {
	case o := <-answer:
		return o, nil
	case <-c.ended:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	select {
	case o := <-answer: // it came with the end
		return o, nil
	default:
		return nil, errPipe
	}
}

// call is the call to use now; nil while there is none.
func (p *pipe) call() *pipeCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil && time.Since(p.now.opened) > p.age {
		p.now.retire()
		p.now = nil
	}
	if p.now == nil && !p.opening && p.life.Err() == nil && time.Now().After(p.again) &&
		p.conn.GetState() == connectivity.Ready {
		p.opening = true
		p.running.Go(p.run)
	}
	return p.now
}

// run opens a call and lives as long as it.
func (p *pipe) run() {
	ctx, cancel := context.WithCancel(p.life)
	defer cancel()
	stream, err := p.stub.AppendMany(ctx)
	c := &pipeCall{
		stream: stream, cancel: cancel, queue: make(chan *pb.AppendManyRequest_Numbered, maxGrouped), opened: time.Now(),
		waiting: map[uint64]chan *pb.AppendManyResponse_Outcome{},
		drained: make(chan struct{}), ended: make(chan struct{}),
	}
	p.mu.Lock()
	p.opening = false
	opened := err == nil
	if opened {
		p.now = c
	}
	p.mu.Unlock()
	if opened {
		p.running.Go(c.send)
		err = c.receive()
		close(c.ended)
		c.retire()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != c && opened {
		return // it was retired, and another is open or may be
	}
	p.now, p.again = nil, time.Now().Add(reopenAfter)
	if status.Code(err) == codes.Unimplemented {
		p.again = time.Now().Add(unknownToThem)
	}
}

// register numbers an append; false when the call takes no more.
func (c *pipeCall) register(n *pb.AppendManyRequest_Numbered) (<-chan *pb.AppendManyResponse_Outcome, bool) {
	answer := make(chan *pb.AppendManyResponse_Outcome, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return nil, false
	}
	c.last++
	n.Number = c.last
	c.waiting[n.Number] = answer
	return answer, true
}

// forget is for those who wait no more.
func (c *pipeCall) forget(number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.waiting[number]; ok {
		delete(c.waiting, number)
		c.drain()
	}
}

// retire takes no more appends; those taken are still answered.
func (c *pipeCall) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired {
		c.retired = true
		c.drain()
	}
}

// drain is called with the lock held, whenever there is less to wait for.
func (c *pipeCall) drain() {
	if c.retired && len(c.waiting) == 0 {
		close(c.drained)
	}
}

// receive hands on the outcomes until there are no more, and answers why.
func (c *pipeCall) receive() error {
	for {
		reply, err := c.stream.Recv()
		if err != nil {
			return err
		}
		c.mu.Lock()
		for _, o := range reply.GetOutcomes() {
			if answer, ok := c.waiting[o.GetNumber()]; ok {
				delete(c.waiting, o.GetNumber())
				c.drain()
				answer <- o
			}
		}
		c.mu.Unlock()
	}
}

// send sends what is queued: as much in one message as there is. When it can't,
// receive learns why.
func (c *pipeCall) send() {
	for {
		var n *pb.AppendManyRequest_Numbered
		select {
		case n = <-c.queue:
		case <-c.drained:
			_ = c.stream.CloseSend() // always nil
			// The façade ends the call now. One that hangs must not keep it.
			hangs := time.AfterFunc(callTimeout, c.cancel)
			<-c.ended
			hangs.Stop()
			return
		case <-c.ended:
			return
		}
		if c.stream.Send(c.group(n)) != nil {
			return
		}
	}
}

// group makes a message of n and what is queued behind it.
func (c *pipeCall) group(n *pb.AppendManyRequest_Numbered) *pb.AppendManyRequest {
	g := &pb.AppendManyRequest{Appends: []*pb.AppendManyRequest_Numbered{n}}
	for size := proto.Size(n); len(g.Appends) < maxGrouped && size < maxGroupedBytes; size += proto.Size(n) {
		select {
		case n = <-c.queue:
			g.Appends = append(g.Appends, n)
		default:
			return g
		}
	}
	return g
}
