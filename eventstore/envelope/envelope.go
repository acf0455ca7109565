// Package envelope writes an event as a NATS message and reads it back: the
// body is the event's data, and everything else stands in headers after the
// CloudEvents binding for NATS, so that any subscriber can read it.
package envelope

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waybill-go/waybill/eventstore"
)

// The headers of an event. The extensions have no hyphens, as CloudEvents
// wants its attribute names.
const (
	headerSpec        = "ce-specversion"
	headerID          = "ce-id"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerSubject     = "ce-subject" // the aggregate
	headerTime        = "ce-time"
	headerVersion     = "ce-version"
	headerSchema      = "ce-schema"
	headerCausation   = "ce-causationid"
	headerCorrelation = "ce-correlationid"
	headerTraceparent = "traceparent"
	headerContentType = "content-type"

	specVersion = "1.0"
	contentType = "application/json"
	// noSource stands where an event has none: CloudEvents wants one.
	noSource = "waybill"
)

// MaxHeaderBytes is more than the headers of any event take.
const MaxHeaderBytes = 4 << 10

// Subject is where an event is read: ORDERS.created.
func Subject(stream, typ string) string { return stream + "." + typ }

// FeedSubject is where the relay, and nobody else, puts an event in. The
// stream turns it into Subject.
func FeedSubject(stream, typ string) string { return "feed." + stream + "." + typ }

// MetadataReady is the key in a JetStream stream's metadata that says whether
// its durables are made. While it is "no" nobody but the event store may make
// one: it would begin at the wrong place.
const MetadataReady = "waybill.ready"

// Ready tells from a stream's metadata whether durables may be made.
func Ready(metadata map[string]string) bool { return metadata[MetadataReady] == "yes" }

// Header is an event's headers.
func Header(e eventstore.Event) map[string][]string {
	source := e.Source
	if source == "" {
		source = noSource
	}
	h := map[string][]string{
		headerSpec:        {specVersion},
		headerID:          {e.ID},
		headerType:        {e.Type},
		headerSource:      {source},
		headerSubject:     {e.Aggregate},
		headerTime:        {e.Time.UTC().Format(time.RFC3339Nano)},
		headerVersion:     {strconv.FormatUint(e.Version, 10)},
		headerSchema:      {strconv.Itoa(e.Schema)},
		headerContentType: {contentType},
	}
	for name, value := range map[string]string{
		headerCausation: e.CausationID, headerCorrelation: e.CorrelationID, headerTraceparent: e.Traceparent,
	} {
		if value != "" {
			h[name] = []string{value}
		}
	}
	return h
}

// Aggregate is the id of the aggregate that a message's headers tell of; empty
// if they tell none.
func Aggregate(header map[string][]string) string { return first(header, headerSubject) }

// Parse reads an event from a message of a stream. The sequence is the
// event's position. An error names the header that is wrong.
func Parse(subject string, header map[string][]string, data []byte, sequence uint64) (eventstore.Event, error) {
	stream, typ, ok := strings.Cut(subject, ".")
	wrong := func(name string) (eventstore.Event, error) {
		return eventstore.Event{}, fmt.Errorf("read event on %q: header %s is %.80q", subject, name, first(header, name))
	}
	if !ok || eventstore.CheckStream(stream) != nil {
		return eventstore.Event{}, fmt.Errorf("read event: subject %.80q is not STREAM.type", subject)
	}
	e := eventstore.Event{
		Stream: stream, Type: typ, Position: sequence,
		ID: first(header, headerID), Aggregate: first(header, headerSubject),
		CausationID: first(header, headerCausation), CorrelationID: first(header, headerCorrelation),
		Traceparent: first(header, headerTraceparent), Data: data,
	}
	if source := first(header, headerSource); source != noSource {
		e.Source = source
	}
	var err error
	switch {
	case first(header, headerSpec) != specVersion:
		return wrong(headerSpec)
	case first(header, headerType) != typ:
		return wrong(headerType)
	case !eventstore.IsID(e.ID):
		return wrong(headerID)
	case !eventstore.IsID(e.Aggregate):
		return wrong(headerSubject)
	case !utf8.Valid(data):
		return eventstore.Event{}, fmt.Errorf("read event on %q: its data is not UTF-8", subject)
	}
	if e.Version, err = strconv.ParseUint(first(header, headerVersion), 10, 64); err != nil || e.Version == 0 {
		return wrong(headerVersion)
	}
	if e.Schema, err = strconv.Atoi(first(header, headerSchema)); err != nil || e.Schema < 1 {
		return wrong(headerSchema)
	}
	if e.Time, err = time.Parse(time.RFC3339Nano, first(header, headerTime)); err != nil {
		return wrong(headerTime)
	}
	e.Time = e.Time.UTC()
	return e, nil
}

func first(header map[string][]string, name string) string {
	if v := header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
