package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

// doorSchemas are the JSON schemas of what goes through a door; those that there
// are.
type doorSchemas struct {
	Subject string          `json:"subject"`
	Request json.RawMessage `json:"request,omitempty"`
	Reply   json.RawMessage `json:"reply,omitempty"`
	Event   json.RawMessage `json:"event,omitempty"`
}

// schemas prints those of a function: as who runs tells them, and of a function of
// this program that does not run as it is declared here.
func (c lsCommand) schemas(ctx context.Context, s *session, nc *nats.Conn) error {
	instances, err := discovery.Find(ctx, nc, c.Schema)
	if err != nil {
		return err
	}
	doors := []doorSchemas{}
	add := func(subject string, get func(of string) string) {
		d := doorSchemas{
			Subject: subject,
			Request: json.RawMessage(get("request")), Reply: json.RawMessage(get("reply")), Event: json.RawMessage(get("event")),
		}
		if len(d.Request)+len(d.Reply)+len(d.Event) > 0 {
			doors = append(doors, d)
		}
	}
	declared := slices.IndexFunc(s.program.Functions, func(f function.Function) bool { return f.Name == c.Schema })
	switch {
	case len(instances) > 0:
		for _, e := range instances[len(instances)-1].Endpoints { // of the one that started last
			add(e.Subject, func(of string) string { return valid(e.Metadata[discovery.MetadataSchema+of]) })
		}
	case declared >= 0:
		for _, d := range s.program.Functions[declared].Doors {
			schemas, err := function.Schemas(d)
			if err != nil {
				return fmt.Errorf("read schemas of %s: %w", d.Subject(), err)
			}
			add(d.Subject(), func(of string) string { return schemas[of] })
		}
	default:
		return fmt.Errorf("there is no function %q: none runs, and this program has %s", c.Schema, strings.Join(names(s.program.Functions), ", "))
	}
	return printJSON(s.stdout, doors)
}

// valid is what is JSON: anyone may answer.
func valid(s string) string {
	if json.Valid([]byte(s)) {
		return s
	}
	return ""
}
