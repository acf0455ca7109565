// Package fleet tells what runs: the replicas of each function, wherever they
// are, how they do, and what waits for them. It is what the command ls shows.
package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// EventStore is the name under which the event store runs and is found.
const EventStore = "eventstore"

// Service is all that runs under one name: a function, the event store, a
// supervisor.
type Service struct {
	Name string `json:"name"`
	// Replicas is how many there are; 0 of one that ought to run and does not.
	Replicas int `json:"replicas"`
	// Wanted is how many replicas supervisors want, and Starts how many
	// processes they have started for them; nil where there are none.
	Wanted *int `json:"wanted,omitempty"`
	Starts *int `json:"starts,omitempty"`
	// Hosts and Releases are those of the replicas, each once.
	Hosts    []string `json:"hosts"`
	Releases []string `json:"releases"`
	// Done counts requests and deliveries since each replica started, and Errors
	// those that failed. Of the event store it counts the events that are in
	// JetStream too, of a supervisor the processes that it started.
	Done   int `json:"done"`
	Errors int `json:"errors"`
	// P50 and P99 are what half of all and 99 % took at most in the last five
	// minutes, over all replicas, right to 1 %; 0 when nothing was done. They are
	// nanoseconds in JSON.
	P50 time.Duration `json:"p50_ns,omitzero"`
	P99 time.Duration `json:"p99_ns,omitzero"`
	// Lag is how many events wait in JetStream, for what never ran too, InHand how many were delivered
	// and are not yet done; nil of what consumes nothing, and when JetStream does
	// not answer.
	Lag    *uint64 `json:"lag,omitempty"`
	InHand *int    `json:"in_hand,omitempty"`
	// DeadLetters are the unresolved ones; nil of what consumes nothing, and when
	// nobody answers for them.
	DeadLetters *int `json:"dead_letters,omitempty"`
	// Problems are what keeps events from moving.
	Problems []string `json:"problems,omitempty"`
	// Instances are the replicas, the oldest first.
	Instances []Instance `json:"instances"`

	recent   discovery.Latency
	consumes bool
}

// Instance is one replica.
type Instance struct {
	ID      string `json:"id"`
	Host    string `json:"host,omitempty"`
	PID     string `json:"pid,omitempty"`
	Release string `json:"release"`
	// Started is when, in UTC.
	Started time.Time `json:"started"`
	// Done and Errors are its part of the service's.
	Done   int `json:"done"`
	Errors int `json:"errors"`
}

func newService(name string) *Service {
	return &Service{Name: name, Hosts: []string{}, Releases: []string{}, Instances: []Instance{}}
}

// List asks on NATS what runs, and JetStream what waits. It answers a service
// for each name that somebody runs under, for the event store, for each of the
// expected functions, and for each that has unresolved dead letters; ordered by name.
// That takes a fraction of a second, and two seconds more while JetStream does not
// answer, or nobody for the dead letters: their numbers are left out then.
func List(ctx context.Context, nc *nats.Conn, expected ...function.Function) ([]*Service, error) {
	instances, err := discovery.Find(ctx, nc, "")
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("ask JetStream: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var (
		unresolved map[string]int
		noAnswer   error
		letters    sync.WaitGroup
	)
	letters.Go(func() { unresolved, noAnswer = unresolvedLetters(within, nc) })
	l := &list{waiting: askJetStream(within, js, durables(instances, expected))}
	letters.Wait()
	l.add(instances)
	l.addSupervised(supervision(instances))
	l.addMissing(expected)
	if noAnswer == nil {
		l.count(unresolved)
	}
	return l.services, nil
}

// list is what is made of the answers; ordered by name.
type list struct {
	services []*Service
	// waiting is what JetStream answered of each durable.
	waiting map[durable]waiting
}

// service is the one of a name, made when it is not there.
func (l *list) service(name string) (s *Service, made bool) {
	i, found := slices.BinarySearchFunc(l.services, name, func(s *Service, name string) int { return strings.Compare(s.Name, name) })
	if !found {
		l.services = slices.Insert(l.services, i, newService(name))
	}
	return l.services[i], !found
}

// addLag adds what waits for a service; what nobody answered is left out.
func (l *list) addLag(s *Service, d durable) {
	s.consumes = true
	waits, ok := l.waiting[d]
	if !ok {
		return
	}
	if s.Lag == nil {
		s.Lag, s.InHand = new(uint64), new(int)
	}
	*s.Lag += waits.lag
	*s.InHand += waits.inHand
}

// add makes a service of all instances of a name.
func (l *list) add(instances []discovery.Instance) {
	for _, i := range instances {
		s, first := l.service(i.Name)
		s.add(i)
		var added []string // several doors share a durable
		for _, e := range i.Endpoints {
			d := durableOf(e)
			if d.name == "" || !first || e.Metadata[discovery.MetadataKind] == discovery.KindSupervisor || slices.Contains(added, d.stream) {
				continue
			}
			added = append(added, d.stream)
			l.addLag(s, d)
		}
	}
	for _, s := range l.services {
		s.P50, s.P99 = s.recent.Percentile(50), s.recent.Percentile(99)
	}
}

// add counts one more replica in.
func (s *Service) add(i discovery.Instance) {
	one := Instance{
		ID: i.ID, Host: i.Metadata[discovery.MetadataHost], PID: i.Metadata[discovery.MetadataPID], Release: i.Version, Started: i.Started,
	}
	for n, stats := range i.Stats {
		e := i.Endpoints[n]
		kind := e.Metadata[discovery.MetadataKind]
		if kind == discovery.KindStore { // what it stores the relay counts
			s.hasProblem("does not store: ", stats.LastError)
			continue
		}
		one.Done, one.Errors = one.Done+stats.NumRequests, one.Errors+stats.NumErrors
		switch kind {
		case discovery.KindSupervisor: // its data is another
		case discovery.KindRelay:
			s.hasProblem("does not relay: ", stats.LastError)
		default:
			health := discovery.HealthOf(stats)
			s.recent.Merge(health.Latency)
			if durableOf(e).name != "" { // a service that is none of ours may have another meaning for its data
				s.hasProblem("waits: ", health.Problem)
			}
		}
	}
	s.Replicas++
	s.Done, s.Errors = s.Done+one.Done, s.Errors+one.Errors
	s.Hosts, s.Releases = withOne(s.Hosts, one.Host), withOne(s.Releases, one.Release)
	s.Instances = append(s.Instances, one)
}

func (s *Service) hasProblem(what, problem string) {
	if problem != "" {
		s.Problems = withOne(s.Problems, what+problem)
	}
}

// withOne is the list with a text, once.
func withOne(list []string, text string) []string {
	if text == "" || slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}

// addMissing adds what ought to run and does not, and tells what waits for it.
func (l *list) addMissing(expected []function.Function) {
	if s, missing := l.service(EventStore); missing {
		s.Problems = []string{"does not run, or this key may not ask: nothing is stored or relayed"}
	}
	for _, f := range expected {
		s, missing := l.service(f.Name)
		if !missing {
			continue
		}
		never := ""
		for _, its := range host.DurablesOf(f) {
			d := durable{its.Stream, f.Name}
			l.addLag(s, d)
			if l.waiting[d].never {
				never = ", and never did"
			}
		}
		if s.Lag != nil && (*s.Lag > 0 || *s.InHand > 0) {
			s.Problems = []string{fmt.Sprintf("does not run%s, and events wait for it: %d", never, *s.Lag+uint64(max(0, *s.InHand)))}
		}
		for _, d := range f.Doors {
			switch d.(type) {
			case *function.Request:
				s.hasProblem("does not run: nobody answers ", d.Subject())
			case *function.Server:
				s.hasProblem("does not run: nobody serves ", d.Subject())
			}
		}
	}
}

// count fills in the unresolved dead letters. What has some is there when no replica
// of it runs, too.
func (l *list) count(unresolved map[string]int) {
	for name := range unresolved {
		s, _ := l.service(name)
		s.consumes = true
	}
	for _, s := range l.services {
		if s.consumes {
			s.DeadLetters = new(unresolved[s.Name])
		}
	}
}
