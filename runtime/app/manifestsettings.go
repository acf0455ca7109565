package app

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/waybill-go/waybill/runtime/config"
)

// filesDir is where pods find the files of their Secret.
const filesDir = "/etc/waybill"

// elsewhere are settings that say nothing about a pod: it has an address of its
// own, the image says where data is, and no NATS server is started in it.
var elsewhere = []string{"DATA_DIR", "NATS_LISTEN", "GRPC_ADVERTISE"}

// files are settings that name one.
var files = []string{"NATS_CREDS", "NATS_NKEY", "NATS_CA", "NATS_CERT", "NATS_KEY", "GRPC_CERT", "GRPC_KEY", "GRPC_CA"}

// setting is one that all pods have.
type setting struct{ Name, Value string }

// podSettings are those that pods are run with, sorted: what is given here,
// wherever it comes from, and has no place of its own in the manifests.
// secrets are the names of those that are given and are in the Secret.
func (s *session) podSettings(ctx context.Context, natsURL string) (all []setting, secrets []string, err error) {
	values := map[string]string{
		"NATS_URL": natsURL, "FEED_REPLICAS": fmt.Sprint(s.settings.FeedReplicas), "DRAIN_TIMEOUT": s.settings.DrainTimeout.String(),
		"LOG_FORMAT": "json", "METRICS_LISTEN": ":8080",
	}
	own := s.program.configs(&Settings{})
	if err := config.Load(ctx, s.lookup, own...); err != nil {
		return nil, nil, err // better than a pod that refuses it
	}
	theirs := config.Variables(own[1:]...)
	for _, v := range config.Variables(own...) {
		value, given := s.lookup.Lookup(v.Name)
		switch {
		case !given, slices.Contains(elsewhere, v.Name), strings.HasSuffix(v.Name, "_LISTEN"), v.Name == "NATS_URL", v.Name == "SCALE_COOL_DOWN":
		case v.Secret:
			if v.Name != eventStoreDB && !slices.ContainsFunc(theirs, func(o config.Variable) bool { return o.Name == v.Name }) {
				secrets = append(secrets, v.Name) // those of functions are theirs alone
			}
		default:
			if err := takesOver(v.Name, value); err != nil {
				return nil, nil, err
			}
			values[v.Name] = value
		}
	}
	if _, given := values["GRPC_PLAINTEXT"]; !given && values["GRPC_CERT"] == "" {
		values["GRPC_PLAINTEXT"] = "true"
	}
	for name, value := range values {
		all = append(all, setting{name, value})
	}
	slices.SortFunc(all, func(a, b setting) int { return strings.Compare(a.Name, b.Name) })
	return all, secrets, nil
}

// takesOver refuses what means nothing in a pod.
func takesOver(name, value string) error {
	switch {
	case name == "NATS_CONTEXT":
		return &config.Error{Variable: name, Value: value, Reason: "is on this machine, and pods don't have it: set NATS_URL instead"}
	case slices.Contains(files, name) && path.Dir(path.Clean(value)) != filesDir:
		return &config.Error{Variable: name, Value: value, Reason: fmt.Sprintf(
			"is a file of this machine: pods have those of their Secret in %s, so name it %s", filesDir, path.Join(filesDir, path.Base(value)))}
	case !utf8.ValidString(value):
		return &config.Error{Variable: name, Value: value, Reason: "is no text, and a ConfigMap holds nothing else"}
	}
	return nil
}
