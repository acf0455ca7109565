package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// held is what nobody without the right may change.
type held struct {
	Config   jetstream.StreamConfig
	State    jetstream.StreamState
	Durables map[string]jetstream.ConsumerInfo
	Failures uint64
}

func (p *production) held() held {
	p.t.Helper()
	nc, _ := p.as("admin")
	js, err := jetstream.New(nc)
	if err != nil {
		p.t.Fatal(err)
	}
	stream, err := js.Stream(p.t.Context(), "ORDERS")
	if err != nil {
		p.t.Fatal(err)
	}
	failures, err := js.Stream(p.t.Context(), "KV_FAILURES")
	if err != nil {
		p.t.Fatal(err)
	}
	return held{
		Config: stream.CachedInfo().Config, State: stream.CachedInfo().State,
		Durables: consumers(p.t, js), Failures: failures.CachedInfo().State.LastSeq,
	}
}

// forbidden is what an identity may neither publish nor subscribe to; other is
// somebody else's name.
func forbidden(name, other string) (publish, subscribe []string) {
	publish = []string{
		"ORDERS.created",
		"_INBOX_" + other + ".x",
		"$JS.ACK.ORDERS." + other + ".1.1.1.1700000000000000000.0",
		"$JS.ACK._.hash.ORDERS." + other + ".1.1.1.1700000000000000000.0",
	}
	for _, api := range []string{"$JS.API.", apiPrefix + "."} {
		publish = append(publish,
			api+"STREAM.PURGE.ORDERS", api+"STREAM.MSG.DELETE.ORDERS", api+"STREAM.DELETE.KV_FAILURES",
			api+"CONSUMER.MSG.NEXT.ORDERS."+other, api+"CONSUMER.DURABLE.CREATE.ORDERS."+name, api+"STREAM.RESTORE.ORDERS",
			api+"CONSUMER.RESET.ORDERS."+other, api+"CONSUMER.PAUSE.ORDERS."+other,
		)
	}
	for _, kv := range []string{"$KV.", apiPrefix + ".$KV."} {
		publish = append(publish, kv+"FAILURES."+other+".ORDERS.1")
	}
	subscribe = []string{
		">", "*.>", "_INBOX.>", "_INBOX_" + other + ".>", "$SRV.>", "$SRV.INFO." + other, "$SRV.PING." + other + ".*",
		"feed.>", "$JS.API.>", apiPrefix + ".>", "$JS.ACK.>", "$KV.>",
	}
	publish = append(publish, "deadletters.replay."+other+".x", "TIMERS."+other, "TIMERS."+other+".o1.1", "TIMERS."+name)
	subscribe = append(subscribe, "deadletters.replay."+other, "deadletters.>")
	if name != "eventstore" {
		publish = append(publish, "deadletters.replay."+other)
		subscribe = append(subscribe, "deadletters.list", "$SRV.INFO.deadletters")
	}
	if name != "admin" {
		publish = append(publish, "deadletters.list", "deadletters.replay", "deadletters.drop")
	}
	if name != "eventstore" {
		publish = append(publish, "feed.ORDERS.created", "feed.ACCOUNTS.deposited", "feed.DEADLETTERS.buried",
			"$JS.API.STREAM.CREATE.ORDERS", "$JS.API.STREAM.UPDATE.ORDERS", "$JS.API.STREAM.DELETE.ORDERS",
			"$JS.API.CONSUMER.DELETE.ORDERS."+name, "$JS.API.CONSUMER.DELETE.ORDERS."+other, "$KV.RELAY.leader", "head.ORDERS")
		subscribe = append(subscribe, "$SRV.INFO.eventstore", "$SRV.STATS.eventstore", "eventstore.refill", "head.*")
	}
	if name != "eventstore" && name != "admin" {
		publish = append(publish, "eventstore.refill", "eventstore.forget", "$JS.API.CONSUMER.CREATE.ORDERS."+name,
			apiPrefix+".CONSUMER.CREATE.ORDERS."+name, apiPrefix+".CONSUMER.CREATE.ORDERS."+name+".ORDERS.created",
			apiPrefix+".STREAM.CREATE.ORDERS", apiPrefix+".STREAM.UPDATE.ORDERS", apiPrefix+".STREAM.DELETE.ORDERS",
			apiPrefix+".CONSUMER.DELETE.ORDERS."+name, apiPrefix+".CONSUMER.DELETE.ORDERS."+other)
	}
	if name != "eventstore" && name != "admin" && name != "gateway" {
		subscribe = append(subscribe, "ORDERS.>")
	}
	if name != "placeorder" {
		subscribe = append(subscribe, "orders.place", "orders.>")
	}
	if name != "client" && name != "gateway" {
		publish = append(publish, "orders.place", "orders.cancel")
	}
	if name != "client" {
		publish = append(publish, "accounts.get")
	}
	if name != "admin" && name != "gateway" {
		publish = append(publish, "orders.review", "orders.deliver")
	}
	if name != "admin" {
		publish = append(publish, "accounts.deposit")
	}
	return publish, subscribe
}

// triesWhatItMayNot has every key try everything that it may not, and then have
// others do it.
func (p *production) triesWhatItMayNot() {
	before := p.held()
	for _, name := range append([]string{"eventstore", "admin", "client"}, functions...) {
		p.t.Run(name, func(t *testing.T) {
			other := "review"
			if name == other {
				other = "payment"
			}
			nc, refused := p.as(name)
			try := func(what, subject string, err error) {
				t.Helper()
				if err := errors.Join(err, nc.Flush()); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-refused:
					if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
						t.Errorf("%s %s: %v", what, subject, err)
					}
				case <-time.After(5 * time.Second):
					t.Errorf("may %s %s", what, subject)
				}
			}
			publish, subscribe := forbidden(name, other)
			for _, subject := range publish {
				try("publish", subject, nc.Publish(subject, nil))
			}
			for _, subject := range subscribe {
				_, err := nc.SubscribeSync(subject)
				try("subscribe to", subject, err)
			}
		})
	}
	p.hasOthersDoIt()
	if after := p.held(); !reflect.DeepEqual(before, after) {
		p.t.Errorf("it was\n%+v\nand is\n%+v", before, after)
	}
}

// hasOthersDoIt sends requests that are allowed, and names as the place for the
// answer what is not: the answer must stay in the account.
func (p *production) hasOthersDoIt() {
	for name, asks := range map[string][]string{
		"client":  {"orders.get"},
		"payment": {apiPrefix + ".CONSUMER.INFO.ORDERS.payment", apiPrefix + ".CONSUMER.MSG.NEXT.ORDERS.payment", "$SRV.INFO.eventstore"},
	} {
		nc, refused := p.as(name)
		for _, ask := range asks {
			body := []byte(`{"order_id":"o1"}`)
			if strings.Contains(ask, "MSG.NEXT") {
				body = []byte(`{"batch":1,"no_wait":true}`) // its answer has no body
			}
			for _, place := range []string{
				"feed.ORDERS.created", "$JS.API.STREAM.DELETE.ORDERS", apiPrefix + ".STREAM.DELETE.ORDERS",
				"$JS.API.CONSUMER.DELETE.ORDERS.review", "eventstore.forget", "ORDERS.created",
				apiPrefix + ".$KV.FAILURES.review.ORDERS.1", "_INBOX_review.x",
			} {
				if err := nc.PublishRequest(ask, place, body); err != nil {
					p.t.Fatal(err)
				}
			}
			// Its answer comes after theirs.
			if _, err := nc.Request(ask, body, 5*time.Second); err != nil {
				p.t.Errorf("%s asks %s: %v", name, ask, err)
			}
		}
		if len(refused) > 0 {
			p.t.Errorf("%s: %v", name, <-refused)
		}
	}
}
