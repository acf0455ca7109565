package telemetry

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// Bounds of a scrape.
const (
	maxScrapes = 4 // at once
	scrapeTime = 10 * time.Second
	// maxStreams are told apart; what is appended to others counts as "other".
	maxStreams = 64
	// maxTypes of events are told apart, over all streams; others count as "other".
	maxTypes = 256
)

// seconds are the histograms' bounds: from what an append takes to the longest
// deadline that is usual.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// metrics is all that is counted, and what is asked for when somebody looks.
type metrics struct {
	registry *prometheus.Registry

	requests, events, buried, redelivered *prometheus.CounterVec
	requestDurations, eventDurations      *prometheus.HistogramVec
	requestsInFlight, requestsWaiting     *prometheus.GaugeVec
	eventsInFlight, eventsWaiting         *prometheus.GaugeVec
	appends, appendEvents                 *prometheus.CounterVec
	appendDurations                       *prometheus.HistogramVec

	doors sync.Map // of doorKey: *door

	mu      sync.Mutex
	streams map[string]struct{}
	types   map[typeKey]prometheus.Counter
	sources []source
}

func newMetrics(o Options, t *traces) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"function", "door"})
	}
	duration := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(), streams: map[string]struct{}{}, types: map[typeKey]prometheus.Counter{},
		requests:         counter("waybill_requests_total", "Requests that were answered, by code; 200 is done.", "function", "door", "code"),
		requestDurations: duration("waybill_request_duration_seconds", "From a request's arrival to its answer.", "function", "door"),
		requestsInFlight: gauge("waybill_requests_in_flight", "Requests that are handled now."),
		requestsWaiting:  gauge("waybill_requests_waiting", "Requests that wait for their turn."),
		events:           counter("waybill_events_total", "Deliveries that were handled, by what their outcome asks for.", "function", "door", "outcome"),
		eventDurations:   duration("waybill_event_duration_seconds", "From a delivery's arrival to its outcome.", "function", "door"),
		eventsInFlight:   gauge("waybill_events_in_flight", "Deliveries that are handled now."),
		eventsWaiting:    gauge("waybill_events_waiting", "Deliveries in hand that wait for their turn."),
		redelivered:      counter("waybill_redeliveries_total", "Deliveries that were not an event's first.", "function", "door"),
		buried:           counter("waybill_dead_letters_buried_total", "Events that became dead letters, by reason.", "function", "reason"),
		appends:          counter("waybill_appends_total", "Appends to the event store of this process, by outcome.", "stream", "outcome"),
		appendEvents:     counter("waybill_append_events_total", "Events that were stored by this process, by type.", "stream", "type"),
		appendDurations:  duration("waybill_append_duration_seconds", "From an append's arrival to its outcome.", "stream"),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.requestDurations, m.requestsInFlight, m.requestsWaiting,
		m.events, m.eventDurations, m.eventsInFlight, m.eventsWaiting, m.redelivered, m.buried,
		m.appends, m.appendEvents, m.appendDurations, m,
	)
	if o.Connection != nil {
		m.add(o.Connection.collect)
	}
	if t != nil {
		m.add(t.collect)
	}
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTime, Registry: m.registry,
	})
}

// door is what is counted of one door of a function.
type door struct {
	inFlight, waiting prometheus.Gauge
	redelivered       prometheus.Counter
	outcomes, buried  *prometheus.CounterVec
	durations         prometheus.Observer
}

type doorKey struct {
	function, door string
	event          bool
}

func keyOf(t host.Taken) doorKey { return doorKey{t.Function, t.Door, t.Stream != ""} }

func (m *metrics) door(key doorKey) *door {
	if d, ok := m.doors.Load(key); ok {
		return d.(*door) //nolint:forcetypeassert // nothing else is in there
	}
	labels := prometheus.Labels{"function": key.function, "door": key.door}
	d := &door{}
	if key.event {
		d.inFlight, d.waiting = m.eventsInFlight.With(labels), m.eventsWaiting.With(labels)
		d.outcomes, d.durations = m.events.MustCurryWith(labels), m.eventDurations.With(labels)
		d.redelivered, d.buried = m.redelivered.With(labels), m.buried.MustCurryWith(prometheus.Labels{"function": key.function})
	} else {
		d.inFlight, d.waiting = m.requestsInFlight.With(labels), m.requestsWaiting.With(labels)
		d.outcomes, d.durations = m.requests.MustCurryWith(labels), m.requestDurations.With(labels)
	}
	for _, outcome := range key.alarming() {
		d.outcomes.WithLabelValues(outcome)
	}
	m.doors.Store(key, d) // whoever was as fast has the same counters in it
	return d
}

// alarming are the outcomes that are told as 0 before the first: a rate sees no
// rise in what begins at 1.
func (k doorKey) alarming() []string {
	if k.event {
		return []string{function.Failed.String(), function.Buried.String()}
	}
	var all []string
	for _, code := range []function.Code{function.CodeOverloaded, function.CodeInternal, function.CodeUnavailable} {
		all = append(all, strconv.Itoa(int(code)))
	}
	return all
}

// Doors has the doors of a function that is about to start counted, from 0 on.
// What a Serve door takes its observer is told of.
func (t *Telemetry) Doors(f function.Function) {
	if t.metrics == nil {
		return
	}
	for _, d := range f.Doors {
		if request, ok := d.(*function.Request); ok {
			t.metrics.door(doorKey{function: f.Name, door: request.Subject()})
		}
	}
	for _, door := range host.EventDoors(f) {
		t.metrics.door(doorKey{function: f.Name, door: door, event: true})
	}
}

func (m *metrics) appended(stream, outcome string, took time.Duration) {
	stream = m.known(stream, outcome)
	m.appends.WithLabelValues(stream, outcome).Inc()
	m.appendDurations.WithLabelValues(stream).Observe(took.Seconds())
}

// typeKey is a type of events.
type typeKey struct{ stream, name string }

// stored counts the events of an append.
func (m *metrics) stored(stream string, events []eventstore.Event) {
	for _, e := range events {
		m.ofType(typeKey{stream, e.Type}).Inc()
	}
}

// ofType counts the events of a type, if it is one of a bounded number.
func (m *metrics) ofType(key typeKey) prometheus.Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.types[key]; ok {
		return c
	}
	if len(m.types) >= maxTypes {
		return m.appendEvents.WithLabelValues("other", "other")
	}
	c := m.appendEvents.WithLabelValues(key.stream, key.name)
	m.types[key] = c
	return c
}

// Types has the types of events that functions take counted, from 0 on, where events
// are stored.
func (t *Telemetry) Types(functions ...function.Function) {
	if t.metrics == nil {
		return
	}
	for _, f := range functions {
		for _, d := range f.Doors {
			if e, ok := d.(*function.Event); ok {
				t.metrics.ofType(typeKey{e.Stream, e.Type})
			}
		}
	}
}

// known is the stream if it is one of a bounded number that something was stored
// in: callers can make up names.
func (m *metrics) known(stream, outcome string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.streams[stream]; ok {
		return stream
	}
	if outcome != outcomeStored && outcome != outcomeRepeated || len(m.streams) >= maxStreams {
		return "other"
	}
	m.streams[stream] = struct{}{}
	return stream
}
