package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/app"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// command runs waybill in this process, and answers its exit code and what it
// said.
func (s *system) command(args string, env ...string) (int, string) {
	s.t.Helper()
	getenv := func(name string) string {
		for _, v := range append(env, s.env...) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
	var out bytes.Buffer
	code := waybill().Run(s.t.Context(), strings.Fields(args), getenv, &out, &out)
	return code, out.String()
}

// TestProvision makes what functions need, once, and leaves what is there.
func TestProvision(t *testing.T) {
	s := newSystem(t)
	server := natstest.Start(t)
	s.env = append([]string{"NATS_URL=" + server.URL(), "GRPC_LISTEN=127.0.0.1:0"}, s.env...)
	provision := func(code int, says ...string) {
		t.Helper()
		got, out := s.command("provision --wait 300ms")
		for _, word := range says {
			if got != code || !strings.Contains(out, word) {
				t.Errorf("provision ended with %d and does not say %q: %s", got, word, out)
			}
		}
	}
	provision(1, "bucket FAILURES: made", "find stream ORDERS", "run eventstore")
	s.start("run eventstore", "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0").ready()
	js, err := jetstream.New(server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "have the streams", func() error {
		if code, out := s.command("provision"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	first := consumers(t, js)
	if len(first) != 5 || first["payment"].Config.FilterSubject != "ORDERS.created" {
		t.Fatalf("durables: %+v", first)
	}
	for name, want := range map[string]string{app.EventStore: `"eventstore.refill"`, "placeorder": `"order_items"`, "payment": `"ORDERS.created"`} { // of which one runs
		var doors []map[string]any
		if code, out := s.command("ls --schema " + name); code != 0 || !strings.Contains(out, want) || json.Unmarshal([]byte(out), &doors) != nil {
			t.Errorf("ls --schema %s ended with %d: %s", name, code, out)
		}
	}
	if code, out := s.command("ls --schema nobody"); code != 1 || !strings.Contains(out, "placeorder") {
		t.Errorf("ls --schema nobody ended with %d: %s", code, out)
	}
	provision(0, "bucket FAILURES: there", "stream ORDERS: there", "durable payment of ORDERS: there\n", "durable orderview of ORDERS: there\n")
	if again := consumers(t, js); !reflect.DeepEqual(first, again) {
		t.Errorf("the second time changed %+v to %+v", first, again)
	}
	other := first["payment"].Config
	other.AckWait = time.Minute
	if _, err := js.UpdateConsumer(t.Context(), "ORDERS", other); err != nil {
		t.Fatal(err)
	}
	s.command("forget ORDERS review")
	if _, err := js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "review", FilterSubject: "ORDERS.created", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	provision(1, "durable payment of ORDERS: there, and left as it is: ack_wait is 1m0s and would be 15s\n",
		"find durable review of ORDERS", `"ORDERS.created"`, `"ORDERS.paymentdebited"`, "durable orderview of ORDERS: there\n")
	if now := consumers(t, js); now["payment"].Config.AckWait != time.Minute || now["review"].Config.FilterSubject != "ORDERS.created" {
		t.Errorf("what was there is now %+v", now)
	}
}

// consumers are those of ORDERS, by name, as far as they stay the same.
func consumers(t *testing.T, js jetstream.JetStream) map[string]jetstream.ConsumerInfo {
	t.Helper()
	stream, err := js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]jetstream.ConsumerInfo{}
	list := stream.ListConsumers(t.Context())
	for info := range list.Info() {
		all[info.Name] = jetstream.ConsumerInfo{Name: info.Name, Created: info.Created, Config: info.Config, AckFloor: jetstream.SequenceInfo{Stream: info.AckFloor.Stream}}
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNkeys(t *testing.T) {
	s := newSystem(t)
	dir := filepath.Join(s.dir, "keys")
	if code, out := s.command("nkeys " + dir); code != 0 || strings.Count(out, ": made") != 13 {
		t.Fatalf("ended with %d: %s", code, out)
	}
	seed := func() string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, "payment.nk"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := seed()
	if info, err := os.Stat(filepath.Join(dir, "payment.nk")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a seed's mode: %v, %v", info.Mode(), err)
	}
	if err := os.Remove(filepath.Join(dir, "review.nk")); err != nil {
		t.Fatal(err)
	}
	if code, out := s.command("nkeys " + dir); code != 0 || strings.Count(out, ": made") != 1 || seed() != first {
		t.Errorf("the second time ended with %d: %s", code, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "review.nk"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := s.command("nkeys " + dir); code != 1 || !strings.Contains(out, "review.nk") || !strings.Contains(out, "seed") {
		t.Errorf("a broken seed ended with %d: %s", code, out)
	}
}

// TestManifestsAreCurrent: what is committed is what the functions declare.
func TestManifestsAreCurrent(t *testing.T) {
	s := &system{t: t}
	code, out := s.command("manifests")
	committed, err := os.ReadFile("deploy/kubernetes/waybill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 || out != string(committed) {
		t.Errorf("deploy/kubernetes/waybill.yaml is not what waybill manifests prints (%d): make generate", code)
	}
	// The saga alone has a durable that a release before may have filtered narrower.
	saga := strings.Index(out, "Recreate")
	if strings.Count(out, "Recreate") != 1 || saga < strings.Index(out, "  name: saga\n") || saga > strings.Index(out, `args: ["run", "saga"]`) {
		t.Error("not the saga alone is stopped before it is started anew")
	}
	_, out = s.command("manifests --namespace shop --image registry.example/waybill@sha256:0123 --account STORE --monitoring nats.nats:8222 --event-stores 3",
		"NATS_URL=tls://nats.nats:4222", "SCALE_COOL_DOWN=90s", "DRAIN_TIMEOUT=1m")
	for _, want := range []string{
		"namespace: shop", `image: "registry.example/waybill@sha256:0123"`, `account: "STORE"`, `"nats.nats:8222"`, "replicas: 3",
		`NATS_URL: "tls://nats.nats:4222"`, "cooldownPeriod: 90", "terminationGracePeriodSeconds: 65",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it has no %s", want)
		}
	}
	for _, c := range []struct{ args, env, says string }{
		{"--namespace Shop", "", "--namespace"},
		{"--image a\"b", "", "--image"},
		{"--monitoring nats", "", "--monitoring"},
		{"--event-stores 0", "", "--event-stores"},
		{"", "NATS_URL=nats://u:hidden@nats", "NATS_NKEY"},
	} {
		if code, out := s.command("manifests "+c.args, c.env); code == 0 || !strings.Contains(out, c.says) || strings.Contains(out, "hidden") {
			t.Errorf("%s %s: %d %s", c.args, c.env, code, out)
		}
	}
}

// TestManifestsTakeSettingsOver: what is given here holds for the pods, or is
// refused; nothing of it is dropped in silence.
func TestManifestsTakeSettingsOver(t *testing.T) {
	s := &system{t: t}
	_, plain := s.command("manifests")
	code, out := s.command("manifests --payment-credit 0 --log-format text", "REVIEW_LIMIT=1000", "SHIPPING_FAIL_FOR=a\"b: c", "FEED_MAX_AGE=24h",
		"PAYMENT_CREDIT=7", "GRPC_CERT=/etc/waybill/cert.pem", "GRPC_TOKEN=hidden", "ORDERS_DB=postgres://hidden", "DATA_DIR=/elsewhere", "HTTP_LISTEN=127.0.0.1:81")
	if code != 0 || strings.Contains(out, "hidden") || strings.Contains(out, "elsewhere") || strings.Contains(out, "127.0.0.1:81") {
		t.Fatalf("%d: %s", code, out)
	}
	config := `
  DRAIN_TIMEOUT: "25s"
  FEED_MAX_AGE: "24h"
  FEED_REPLICAS: "1"
  GRPC_CERT: "/etc/waybill/cert.pem"
  LOG_FORMAT: "text"
  METRICS_LISTEN: ":8080"
  NATS_URL: "nats://nats:4222"
  PAYMENT_CREDIT: "0"
  REVIEW_LIMIT: "1000"
  SHIPPING_FAIL_FOR: "a\"b: c"
---
`
	if !strings.Contains(out, config) {
		t.Errorf("the ConfigMap has not %s in %s", config, out)
	}
	if n := strings.Count(out, "key: GRPC_TOKEN"); n != 1+len(waybill().Functions) {
		t.Errorf("%d refer to GRPC_TOKEN", n)
	}
	job := func(out string) string {
		return regexp.MustCompile(`name: waybill-provision-0-1-0-[0-9a-f]{8}\n`).FindString(out)
	}
	_, image := s.command("manifests --image other:1")
	if job(plain) == "" || job(plain) == job(out) || job(plain) == job(image) {
		t.Errorf("Jobs that differ have the names %q, %q and %q", job(plain), job(out), job(image))
	}
	for given, says := range map[string]string{
		"NATS_CONTEXT=home":         "set NATS_URL",
		"NATS_NKEY=keys/payment.nk": "name it /etc/waybill/payment.nk",
		"REVIEW_LIMIT=much":         "REVIEW_LIMIT",
		"SHIPPING_FAIL_FOR=\xff":    "is no text",
	} {
		if code, out := s.command("manifests", given); code != 2 || !strings.Contains(out, says) || strings.Contains(out, "kind:") {
			t.Errorf("%s: %d %s", given, code, out)
		}
	}
}
