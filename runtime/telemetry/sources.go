package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waybill-go/waybill/eventstore/groupcommit"
)

// source is asked for its numbers whenever somebody looks. It must not wait for
// anything outside the process.
type source func(tell teller)

// teller takes one number, with its labels' values.
type teller func(n *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)

const (
	gauge = prometheus.GaugeValue
	count = prometheus.CounterValue
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	relayLeading  = describe("waybill_relay_leading", "1 while this process relays, 0 while another does.")
	relayPosition = describe("waybill_relay_position", "Position of the last event that is in JetStream.", "stream")
	relayHead     = describe("waybill_relay_head", "Position of the newest event that the relay knows of.", "stream")
	relayLag      = describe("waybill_relay_lag_events", "Events that are stored, and not in JetStream yet.", "stream")
	relayStopped  = describe("waybill_relay_stopped", "1 while something keeps the relay from relaying; waybill ls says what.", "stream")

	consumerLag     = describe("waybill_consumer_lag_events", "Events that wait for a function in JetStream, or are in hand; the leading event store tells it.", "function", "stream")
	consumerStopped = describe("waybill_consumer_stopped", "1 while something keeps this replica from its events, or from one in hand; waybill ls says what.", "function", "stream")

	lettersUnresolved = describe("waybill_dead_letters_unresolved", "Dead letters that are neither handled nor dropped.", "function")

	commits         = describe("waybill_commits_total", "Transactions that the event store committed or tried to.")
	committed       = describe("waybill_commit_appends_total", "Appends in these; divided by them, the size of a batch.")
	commitsWaiting  = describe("waybill_commit_waiting_appends", "Appends that wait for the next commit.")
	commitsWaitingB = describe("waybill_commit_waiting_bytes", "Their size.")

	natsConnected   = describe("waybill_nats_connected", "1 while the process is connected to NATS.")
	natsDisconnects = describe("waybill_nats_disconnects_total", "Times that the connection to NATS was lost.")
	natsReconnects  = describe("waybill_nats_reconnects_total", "Times that it came back.")
	natsLameDucks   = describe("waybill_nats_lame_ducks_total", "Servers that said that they are about to stop.")
	natsSlow        = describe("waybill_nats_slow_consumers_total", "Times that messages were dropped since they came too fast.")
	natsErrors      = describe("waybill_nats_errors_total", "Other errors that NATS told of.")

	spansExported = describe("waybill_spans_exported_total", "Spans that the collector took.")
	spansLost     = describe("waybill_spans_lost_total", "Spans that the collector did not take, by why: queue_full, export_failed.", "reason")
	spansWaiting  = describe("waybill_spans_waiting", "Spans on their way to the collector.")
)

// add has a source asked from now on.
func (m *metrics) add(s source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, s)
}

// Describe implements prometheus.Collector. What sources tell of depends on what
// runs, so nothing is promised.
func (*metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	sources := m.sources // which only grows
	m.mu.Unlock()
	for _, s := range sources {
		s(func(n *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(n, kind, value, labels...)
		})
	}
}

// add is metrics.add where somebody asks for metrics.
func (t *Telemetry) add(s source) {
	if t.metrics != nil {
		t.metrics.add(s)
	}
}

// RelayedStream is where the relay of one stream stands.
type RelayedStream struct {
	Name           string
	Position, Head uint64
	// Stopped says that nothing is relayed.
	Stopped bool
	// Lag is how many events wait for each function, or are in hand.
	Lag map[string]uint64
}

// Relay has the relay's state told: whether it leads, and how far each stream is.
func (t *Telemetry) Relay(state func() (leads bool, streams []RelayedStream)) {
	t.add(func(tell teller) {
		leads, streams := state()
		tell(relayLeading, gauge, number(leads))
		for _, s := range streams {
			tell(relayPosition, gauge, float64(s.Position), s.Name)
			tell(relayHead, gauge, float64(s.Head), s.Name)
			tell(relayLag, gauge, float64(s.Head-min(s.Head, s.Position)), s.Name)
			tell(relayStopped, gauge, number(s.Stopped), s.Name)
			for function, n := range s.Lag {
				tell(consumerLag, gauge, float64(n), function, s.Name)
			}
		}
	})
}

// Consumer has told whether a function is kept from its events, of each stream that
// it takes some from: problems says by what, empty if by nothing.
func (t *Telemetry) Consumer(function string, problems func() map[string]string) {
	t.add(func(tell teller) {
		for stream, problem := range problems() {
			tell(consumerStopped, gauge, number(problem != ""), function, stream)
		}
	})
}

// DeadLetters has the unresolved dead letters told, by function.
func (t *Telemetry) DeadLetters(unresolved func() map[string]int) {
	t.add(func(tell teller) {
		for function, n := range unresolved() {
			tell(lettersUnresolved, gauge, float64(n), function)
		}
	})
}

// Commits has the event store's commits told.
func (t *Telemetry) Commits(stats func() groupcommit.Stats) {
	t.add(func(tell teller) {
		s := stats()
		tell(commits, count, float64(s.Commits))
		tell(committed, count, float64(s.Appends))
		tell(commitsWaiting, gauge, float64(s.Queued))
		tell(commitsWaitingB, gauge, float64(s.QueuedBytes))
	})
}

// Connected has told whether the process is connected to NATS.
func (t *Telemetry) Connected(connected func() bool) {
	t.add(func(tell teller) {
		tell(natsConnected, gauge, number(connected()))
	})
}

func (c *Connection) collect(tell teller) {
	tell(natsDisconnects, count, float64(c.Disconnects.Load()))
	tell(natsReconnects, count, float64(c.Reconnects.Load()))
	tell(natsLameDucks, count, float64(c.LameDucks.Load()))
	tell(natsSlow, count, float64(c.SlowConsumers.Load()))
	tell(natsErrors, count, float64(c.Errors.Load()))
}

func (t *traces) collect(tell teller) {
	tell(spansExported, count, float64(t.way.exported.Load()))
	tell(spansLost, count, float64(t.way.dropped.Load()), "queue_full")
	tell(spansLost, count, float64(t.way.failed.Load()), "export_failed")
	tell(spansWaiting, gauge, float64(t.way.inHand.Load()))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
