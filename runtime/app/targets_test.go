package app

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/micro"
)

func TestTargetsAreTheProcessesOfThisMachine(t *testing.T) {
	info := func(name, host, metrics string) micro.Info {
		return micro.Info{ServiceIdentity: micro.ServiceIdentity{Name: name, Metadata: map[string]string{"host": host, "metrics": metrics}}}
	}
	got, err := json.Marshal(targets([]micro.Info{
		info("supervisor", "here", "127.0.0.1:8080"), info("eventstore", "here", "127.0.0.1:8080"), info("payment", "here", "127.0.0.1:4001"),
		info("payment", "here", "[::]:4002"), info("payment", "there", "127.0.0.1:4003"), info("stranger", "here", ""), info("odd", "here", "odd"),
	}, "here", "::1"))
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"targets":["[::1]:4001"],"labels":{"services":"payment"}},{"targets":["[::1]:4002"],"labels":{"services":"payment"}},` +
		`{"targets":["[::1]:8080"],"labels":{"services":"eventstore,supervisor"}}]`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, err := json.Marshal(targets(nil, "here", "a")); err != nil || string(got) != "[]" {
		t.Errorf("none: %s, %v", got, err) // null would be an error to Prometheus
	}
}
