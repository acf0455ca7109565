// Package discovery tells who runs where, in NATS's own micro protocol
// (ADR-32): it answers $SRV.PING, INFO and STATS for the functions of this
// process, asks for those of all processes, and resolves the address of the
// event store for gRPC.
//
// It does not use micro.AddService: that runs one request at a time for each
// endpoint, returns from Stop before the last reply is out, and counts wrong
// as soon as a handler hands its work on. The types on the wire are micro's.
package discovery

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
)

// Identity is what a service instance tells about itself.
type Identity struct {
	// Name matches [A-Za-z0-9_-]+.
	Name string
	// Release is a semantic version.
	Release     string
	Description string
	// Metadata is told beside the machine's name and the process's id.
	Metadata map[string]string
}

// Service answers for one instance of a service until it is stopped.
type Service struct {
	identity    micro.ServiceIdentity
	description string
	started     time.Time
	subs        []*nats.Subscription

	mu        sync.Mutex
	endpoints []*Endpoint
}

// Endpoint counts what one door of a service has done.
type Endpoint struct {
	info micro.EndpointInfo

	mu        sync.Mutex
	done      int
	errors    int
	lastError string
	spent     time.Duration
	recent    window
	report    func() (done int, problem string)
	problem   func() string
	data      func() any
}

// Announce makes the service known on nc.
func Announce(nc *nats.Conn, id Identity) (*Service, error) {
	metadata := map[string]string{MetadataPID: strconv.Itoa(os.Getpid())}
	if host, err := os.Hostname(); err == nil {
		metadata[MetadataHost] = host
	}
	maps.Copy(metadata, id.Metadata)
	s := &Service{
		identity:    micro.ServiceIdentity{Name: id.Name, ID: nuid.Next(), Version: id.Release, Metadata: metadata},
		description: id.Description,
		started:     time.Now().UTC(),
	}
	for verb, answer := range map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return micro.Ping{ServiceIdentity: s.identity, Type: micro.PingResponseType} },
		micro.InfoVerb:  func() any { return s.Info() },
		micro.StatsVerb: func() any { return s.Stats() },
	} {
		for _, to := range [][2]string{{"", ""}, {id.Name, ""}, {id.Name, s.identity.ID}} {
			subject, err := micro.ControlSubject(verb, to[0], to[1])
			if err != nil {
				return nil, fmt.Errorf("announce service %q: %w", id.Name, err)
			}
			sub, err := nc.Subscribe(subject, func(m *nats.Msg) { respond(m, answer()) })
			if err != nil {
				s.Stop()
				return nil, fmt.Errorf("announce service %q: %w", id.Name, err)
			}
			s.subs = append(s.subs, sub)
		}
	}
	return s, nil
}

func respond(m *nats.Msg, answer any) {
	if m.Reply == "" {
		return
	}
	data, err := json.Marshal(answer)
	if err == nil {
		// A lost answer is asked for again; there is no one to tell.
		_ = m.Respond(data)
	}
}

// Endpoint adds a door to what the service tells. Endpoints are told by their names,
// so one whose name is taken has its subject for a name, as far as a name may have it.
func (s *Service) Endpoint(name, subject string, metadata map[string]string) *Endpoint {
	if metadata == nil {
		metadata = map[string]string{}
	}
	e := &Endpoint{info: micro.EndpointInfo{
		Name: name, Subject: subject, QueueGroup: s.identity.Name, Metadata: metadata,
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.endpoints, func(o *Endpoint) bool { return o.info.Name == name }) {
		e.info.Name = notInNames.ReplaceAllString(subject, "_")
	}
	s.endpoints = append(s.endpoints, e)
	return e
}

// notInNames is what an endpoint's name can't have.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// Report has the endpoint's numbers come from elsewhere: what was done, and what
// the problem is now; empty if there is none.
func (e *Endpoint) Report(f func() (done int, problem string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report = f
}

// Health is what an endpoint's stats carry as their data.
type Health struct {
	// Problem is what keeps a consumer from its events; empty if nothing does.
	Problem string `json:"problem,omitzero"`
	// Latency is how long messages took of late, from when they came: the wait
	// for their turn is part of it. Those that were refused at once are not.
	Latency Latency `json:"latency,omitzero"`
}

// HealthOf reads what an endpoint's stats carry; anyone may answer, so nonsense
// is passed over.
func HealthOf(s *micro.EndpointStats) (h Health) {
	if json.Unmarshal(s.Data, &h) != nil {
		return Health{}
	}
	return h
}

// Problem has the endpoint's stats say what keeps it from its messages now:
// empty if nothing does.
func (e *Endpoint) Problem(f func() string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.problem = f
}

// Data has the endpoint's stats carry a value of its own, as JSON, instead of
// [Health].
func (e *Endpoint) Data(f func() any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.data = f
}

// Done counts one message that was handled; failure is empty if it went well.
func (e *Endpoint) Done(took time.Duration, failure string) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done++
	e.spent += took
	e.recent.record(now, took)
	if failure != "" {
		e.errors++
		e.lastError = failure
	}
}

// Refused counts one message that was refused before it cost anything: how long
// those take that are handled says more without it.
func (e *Endpoint) Refused(failure string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done++
	e.errors++
	e.lastError = failure
}

// Info is what INFO is answered with.
func (s *Service) Info() micro.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := micro.Info{
		ServiceIdentity: s.identity, Type: micro.InfoResponseType, Description: s.description,
		Endpoints: make([]micro.EndpointInfo, len(s.endpoints)),
	}
	for i, e := range s.endpoints {
		info.Endpoints[i] = e.info
	}
	return info
}

// Stats is what STATS is answered with.
func (s *Service) Stats() micro.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := micro.Stats{
		ServiceIdentity: s.identity, Type: micro.StatsResponseType, Started: s.started,
		Endpoints: make([]*micro.EndpointStats, len(s.endpoints)),
	}
	for i, e := range s.endpoints {
		stats.Endpoints[i] = e.stats()
	}
	return stats
}

func (e *Endpoint) stats() *micro.EndpointStats {
	s, data := e.now()
	if text, err := json.Marshal(data()); err == nil && string(text) != "{}" { // else there is none
		s.Data = text
	}
	return s
}

// now is what the endpoint tells; its data takes time to make, and other locks,
// so it is made when those that count no longer wait for it.
func (e *Endpoint) now() (s *micro.EndpointStats, data func() any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s = &micro.EndpointStats{
		Name: e.info.Name, Subject: e.info.Subject, QueueGroup: e.info.QueueGroup,
		NumRequests: e.done, NumErrors: e.errors, LastError: e.lastError, ProcessingTime: e.spent,
	}
	if e.report != nil {
		s.NumRequests, s.LastError = e.report()
	}
	if e.done > 0 {
		s.AverageProcessingTime = e.spent / time.Duration(e.done)
	}
	if e.data != nil {
		return s, e.data
	}
	recent, problem := e.recent.recent(time.Now()), e.problem
	return s, func() any {
		health := Health{Latency: recent}
		if problem != nil {
			health.Problem = problem()
		}
		return health
	}
}

// Stop takes the instance off the list.
func (s *Service) Stop() {
	for _, sub := range s.subs {
		// Only a closed connection refuses, and then it is off the list.
		_ = sub.Unsubscribe()
	}
}
