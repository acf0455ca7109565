package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/storetest"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

// counted passes every call on, counts them, and breaks calls of AppendMany
// off after some outcomes when it is told to.
type counted struct {
	*rpc.Server
	single, many atomic.Int64
	breakAfter   int64
}

func (c *counted) Append(ctx context.Context, r *pb.AppendRequest) (*pb.AppendResponse, error) {
	c.single.Add(1)
	reply, err := c.Server.Append(ctx, r)
	if invalid := (*eventstore.InvalidError)(nil); errors.As(err, &invalid) {
		err = status.Error(codes.InvalidArgument, err.Error())
	}
	return reply, err
}

func (c *counted) AppendMany(stream pb.EventStore_AppendManyServer) error {
	c.many.Add(1)
	return c.Server.AppendMany(&breaking{EventStore_AppendManyServer: stream, after: c.breakAfter})
}

type breaking struct {
	pb.EventStore_AppendManyServer
	sent, after int64
}

func (b *breaking) Send(m *pb.AppendManyResponse) error {
	if b.sent += int64(len(m.GetOutcomes())); b.after > 0 && b.sent > b.after {
		return status.Error(codes.Unavailable, "broken off")
	}
	return b.EventStore_AppendManyServer.Send(m)
}

// TestAppendsGoThroughThePipe has callers append at once while calls of
// AppendMany end in order and are broken off: nothing is lost, nothing is there
// twice, and no caller is told.
func TestAppendsGoThroughThePipe(t *testing.T) {
	for _, c := range []struct {
		name       string
		breakAfter int64
		age        time.Duration
	}{
		{"in one call", 0, time.Hour},
		{"broken off", 50, time.Hour},
		{"in a new call every 5 ms", 0, 5 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := backend(t)
			server := &counted{Server: rpc.NewServer(store, rpc.Access{}, nil), breakAfter: c.breakAfter}
			cl := client(t, serveRaw(t, server)).WithPipeAge(c.age)
			var wg sync.WaitGroup
			const callers, calls = 16, 100
			for w := range callers {
				wg.Go(func() {
					for i := range calls {
						e := storetest.Event("x", fmt.Sprintf(`{"w":%d,"i":%d}`, w, i))
						done, err := cl.Append(t.Context(), storetest.To(fmt.Sprintf("a%d", w), eventstore.Exactly(uint64(i)), e))
						if err != nil || done.Version() != uint64(i)+1 || string(done.Events[0].Data) != string(e.Data) || done.Events[0].Time.IsZero() {
							t.Errorf("caller %d, call %d: %+v, %v", w, i, done, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := len(storetest.Consistent(t, t.Context(), store, storetest.Stream)); n != callers*calls {
				t.Errorf("%d events, want %d", n, callers*calls)
			}
			single, many := server.single.Load(), server.many.Load()
			t.Logf("%d calls of Append, %d of AppendMany", single, many)
			if c.breakAfter == 0 && c.age == time.Hour && (many != 2 || single > callers*calls/2) {
				t.Errorf("%d calls of Append, %d of AppendMany: the pipe is not used", single, many)
			}
			if (c.breakAfter > 0 || c.age < time.Hour) && many < 4 {
				t.Errorf("%d calls of AppendMany: none was opened again", many)
			}
		})
	}
}

// TestOlderFacade knows no AppendMany.
func TestOlderFacade(t *testing.T) {
	c := serveOdd(t, odd{events: []*pb.Event{{Version: 7}}})
	for range 10 {
		if done, err := c.Append(t.Context(), storetest.To("a", eventstore.Any, storetest.Event("x", "1"))); err != nil || done.Version() != 7 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
}

// TestLargeAppendsInThePipe: what is grouped still fits into a message.
func TestLargeAppendsInThePipe(t *testing.T) {
	_, address := serve(t, backend(t), "127.0.0.1:0")
	cl := client(t, address)
	warm(t, cl)
	data := `"` + strings.Repeat("x", eventstore.MaxEventBytes-1024) + `"`
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 2 {
				var events []eventstore.Event
				for range 5 {
					events = append(events, storetest.Event("x", data))
				}
				for range 2 { // the second time it is answered with all that is stored
					done, err := cl.Append(t.Context(), storetest.To(fmt.Sprintf("l%d", w), eventstore.Any, events...))
					if err != nil || len(done.Events) != 5 || string(done.Events[4].Data) != data {
						t.Errorf("%d events, %v", len(done.Events), err)
					}
				}
			}
		})
	}
	for range 200 {
		if _, err := cl.Append(t.Context(), storetest.To("small", eventstore.Any, storetest.Event("x", "1"))); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// warm has the client open its pipes.
func warm(t *testing.T, c *rpc.Client) {
	t.Helper()
	for range 20 {
		if _, err := c.Append(t.Context(), storetest.To("warm", eventstore.Any, storetest.Event("x", "1"))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAppendManyRaw has a foreign client say odd things, all at once.
func TestAppendManyRaw(t *testing.T) {
	_, address := serve(t, backend(t), "127.0.0.1:0")
	stream, err := pb.NewEventStoreClient(raw(t, address)).AppendMany(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := func(id string) *pb.AppendRequest {
		return &pb.AppendRequest{Stream: "ORDERS", Aggregate: "a", ExpectedVersion: -1, Events: []*pb.Event{{Id: id, Type: "x", Data: "1"}}}
	}
	if err := stream.Send(&pb.AppendManyRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.AppendManyRequest{Appends: []*pb.AppendManyRequest_Numbered{
		nil, {Number: 1}, {Number: 2, Append: &pb.AppendRequest{Events: []*pb.Event{nil}}},
		{Number: 3, Append: good("i3"), Timeout: durationpb.New(-time.Second)},
		{Number: 4, Append: good("i4"), Timeout: &durationpb.Duration{Seconds: 1 << 62, Nanos: -1}},
		{Number: 5, Append: good("i5")}, {Number: 5, Append: good("i6")},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got := map[uint64][]codes.Code{}
	for {
		reply, err := stream.Recv()
		if err != nil {
			break
		}
		for _, o := range reply.GetOutcomes() {
			var st spb.Status
			if err := proto.Unmarshal(o.GetStatus(), &st); err != nil {
				t.Fatal(err)
			}
			if st.GetCode() == 0 && o.GetStored().GetFirstPosition() == 0 {
				t.Errorf("no outcome in %v", o)
			}
			got[o.GetNumber()] = append(got[o.GetNumber()], codes.Code(st.GetCode()))
		}
	}
	for number, want := range map[uint64][]codes.Code{
		0: {codes.InvalidArgument}, 1: {codes.InvalidArgument}, 2: {codes.InvalidArgument}, 3: {codes.DeadlineExceeded},
		4: {codes.OK}, 5: {codes.OK, codes.OK},
	} {
		if !slices.Equal(got[number], want) {
			t.Errorf("number %d: %v, want %v", number, got[number], want)
		}
	}
}
