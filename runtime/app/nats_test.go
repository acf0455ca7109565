package app

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

type safeBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *safeBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestNATSEventsAreLoggedAndCounted takes a server away, brings it back, and is
// too slow for what it sends.
func TestNATSEventsAreLoggedAndCounted(t *testing.T) {
	server := natstest.Start(t)
	var out safeBuilder
	s := &session{settings: Settings{NATSURL: server.URL(), LogLevel: "info", LogFormat: "text"}}
	s.log = newLogger(s.settings, &out)
	nc, err := s.connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	counted := func(what string, n interface{ Load() uint64 }, says string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for n.Load() == 0 || !strings.Contains(out.String(), says) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: counted %d, and the log is %s", what, n.Load(), out.String())
			}
			time.Sleep(time.Millisecond)
		}
	}
	block := make(chan struct{})
	sub, err := nc.Subscribe("fast", func(*nats.Msg) { <-block })
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(1, -1); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := nc.Publish("fast", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	counted("slow consumers", &s.connection.SlowConsumers, "subject=fast dropped=")
	close(block)
	server.Stop()
	counted("disconnects", &s.connection.Disconnects, "lost connection to NATS")
	server.Restart()
	counted("reconnects", &s.connection.Reconnects, "connected to NATS again")
	if n := s.connection.Errors.Load(); n != 0 {
		t.Errorf("%d other errors: %s", n, out.String())
	}
}
