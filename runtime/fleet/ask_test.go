package fleet

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// TestDurablesAreAskedForAtOnce has a JetStream that answers nobody before it was
// asked for all of them: who asks for one after the other never hears of any.
func TestDurablesAreAskedForAtOnce(t *testing.T) {
	const prefix, n = "SLOW.API", 20
	nc := natstest.Start(t).Connect()
	var asked []*nats.Msg // touched by the subscription's goroutine alone
	answers, err := nc.Subscribe(prefix+".CONSUMER.INFO.COUNTERS.*", func(m *nats.Msg) {
		if asked = append(asked, m); len(asked) < n {
			return
		}
		for i, m := range asked {
			_, name, _ := strings.Cut(m.Subject, "COUNTERS.")
			body := fmt.Sprintf(`{"stream_name":"COUNTERS","name":%q,"num_pending":%d,"num_ack_pending":%d}`, name, len(name), i)
			if err := m.Respond([]byte(body)); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	js, err := jetstream.NewWithAPIPrefix(nc, prefix)
	if err != nil {
		t.Fatal(err)
	}
	all := map[durable]string{{"NONE", "nobody"}: ""}
	for i := range n {
		all[durable{"COUNTERS", strings.Repeat("x", i+1)}] = ""
	}
	found := askJetStream(t.Context(), js, all)
	inHand := 0
	for d, w := range found {
		if inHand += w.inHand; d.stream != "COUNTERS" || w.lag != uint64(len(d.name)) {
			t.Errorf("%v: %+v", d, w)
		}
	}
	if len(found) != n || inHand != n*(n-1)/2 {
		t.Errorf("%d answers, %d in hand", len(found), inHand)
	}
}

// TestOneBoundForAll: when the time is up nobody asks for those that are left.
func TestOneBoundForAll(t *testing.T) {
	const prefix = "SILENT.API"
	nc := natstest.Start(t).Connect()
	silent, err := nc.SubscribeSync(prefix + ".>")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Unsubscribe() }()
	js, err := jetstream.NewWithAPIPrefix(nc, prefix)
	if err != nil {
		t.Fatal(err)
	}
	all := map[durable]string{}
	for i := range 3 * asksAtOnce {
		all[durable{"COUNTERS", fmt.Sprint("f", i)}] = ""
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if found := askJetStream(ctx, js, all); len(found) != 0 {
		t.Errorf("answers %v", found)
	}
	if err := nc.Flush(); err != nil { // all that was asked has come then
		t.Fatal(err)
	}
	if n, _, err := silent.Pending(); err != nil || n != asksAtOnce {
		t.Errorf("asked for %d, want those of the first time alone; %v", n, err)
	}
}
