package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/grpc/resolver"
)

// lookEvery is how often the resolver looks who serves. With the look itself,
// which waits for the last answer, who comes and who goes is known within a
// second. It looks at once when a connection breaks: who was killed tells nobody.
const lookEvery = 500 * time.Millisecond

// Resolver makes gRPC targets of the form nats:///SERVICE: the addresses that
// the instances of that service tell. It follows them within a second.
func Resolver(nc *nats.Conn) resolver.Builder { return builder{nc, lookEvery} }

type builder struct {
	nc    *nats.Conn
	every time.Duration
}

func (builder) Scheme() string { return "nats" }

func (b builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service := target.Endpoint()
	if service == "" {
		return nil, errors.New("resolve event store: the target nats:/// needs the name of a service, as in nats:///eventstore")
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &watch{
		nc: b.nc, every: b.every, service: service, host: host, cc: cc,
		cancel: cancel, now: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go r.run(ctx)
	return r, nil
}

type watch struct {
	nc            *nats.Conn
	every         time.Duration
	service, host string
	cc            resolver.ClientConn
	cancel        context.CancelFunc
	now           chan struct{}
	done          chan struct{}
	known         []string
}

func (w *watch) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case w.now <- struct{}{}:
	default:
	}
}

func (w *watch) Close() {
	w.cancel()
	<-w.done
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-w.now:
			// A broken connection asks often; the one that replaces it needs
			// a moment to come up.
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// look asks who serves, and tells gRPC what changed. An empty answer never
// replaces a known set: it says that NATS can't be asked, or that all are
// starting again, mostly where they were.
func (w *watch) look(ctx context.Context) {
	if len(w.known) == 0 {
		w.lookFirst(ctx)
		return
	}
	infos, err := ask[micro.Info](ctx, w.nc, micro.InfoVerb, w.service)
	if err == nil {
		w.tell(infos)
	}
}

// lookFirst is content with the first answer that can be reached: the rest
// come with the next look.
func (w *watch) lookFirst(ctx context.Context) {
	var unreachable []string
	for info, err := range answers[micro.Info](ctx, w.nc, micro.InfoVerb, w.service) {
		if err != nil {
			break // said below: nobody answers
		}
		if w.reachable(info) {
			w.tell([]micro.Info{info})
			return
		}
		unreachable = append(unreachable, fmt.Sprintf("%q on host %q", info.Metadata[MetadataGRPC], info.Metadata[MetadataHost]))
	}
	if ctx.Err() != nil {
		return // closed
	}
	if len(unreachable) == 0 {
		w.cc.ReportError(fmt.Errorf("no %s answers on NATS; start one with the command run %s", w.service, w.service))
		return
	}
	w.cc.ReportError(fmt.Errorf("%s answers with addresses that can't be reached from here, %s: set GRPC_ADVERTISE there",
		w.service, strings.Join(unreachable, ", ")))
}

func (w *watch) tell(infos []micro.Info) {
	var addresses []string
	for _, info := range infos {
		if w.reachable(info) {
			addresses = append(addresses, info.Metadata[MetadataGRPC])
		}
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	if len(addresses) == 0 || slices.Equal(addresses, w.known) {
		return
	}
	w.known = addresses
	state := resolver.State{Addresses: make([]resolver.Address, len(addresses))}
	for i, a := range addresses {
		state.Addresses[i] = resolver.Address{Addr: a}
	}
	// The error asks for another look, which comes anyway.
	_ = w.cc.UpdateState(state)
}

func (w *watch) reachable(info micro.Info) bool {
	return reachable(info.Metadata[MetadataGRPC], info.Metadata[MetadataHost] == w.host)
}

// reachable tells whether an address is worth a try from here: another host's
// loopback is not.
func reachable(address string, sameHost bool) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return false
	}
	if host == "localhost" {
		return sameHost
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return true // a name
	}
	return !ip.IsUnspecified() && (sameHost || !ip.IsLoopback())
}
