package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/fleet"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver"
)

// A program looks at what runs as ls does: here at two replicas of echo, which
// has answered three requests.
func ExampleList() {
	nc, stop := startEcho()
	defer stop()

	services, err := fleet.List(context.Background(), nc)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range services {
		fmt.Println(s.Name, s.Replicas, s.Releases, s.Done, s.Errors, s.P99 > 0, s.Problems)
	}
	// Output:
	// echo 2 [1.0.0] 3 0 true []
	// eventstore 0 [] 0 0 false [does not run, or this key may not ask: nothing is stored or relayed]
}

// startEcho runs two replicas of a function on a server of their own.
func startEcho() (*nats.Conn, func()) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "fleet")
	must(err)
	log := slog.New(slog.DiscardHandler)
	server, err := natsserver.Start(ctx, natsserver.Options{Listen: "127.0.0.1:-1", StoreDir: dir, Logger: log})
	must(err)
	nc, err := nats.Connect(server.URL())
	must(err)
	echo := function.Function{Name: "echo", Doors: []function.Door{
		function.Endpoint("echo.say", func(_ context.Context, word string) (string, error) { return word, nil }),
	}}
	var hosts []*host.Host
	for range 2 {
		h, err := host.Start(echo, host.Options{Conn: nc, Release: "1.0.0", Logger: log})
		must(err)
		hosts = append(hosts, h)
	}
	for range 3 {
		_, err := nc.Request("echo.say", []byte(`"hello"`), 10*time.Second)
		must(err)
	}
	return nc, func() {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for _, h := range hosts {
			must(h.Stop(ctx))
		}
		nc.Close()
		server.Stop()
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
