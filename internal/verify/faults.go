package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

// saboteur does harm, one thing after the other, as the seed has it.
type saboteur struct {
	f    *fleet
	js   jetstream.JetStream
	rand *rand.Rand
	pg   *databases // nil on SQLite
}

// fault is one kind of harm, and how often it is chosen among the others.
type fault struct {
	name   string
	weight int
	do     func(context.Context) bool
}

func (s *saboteur) faults() []fault {
	all := []fault{
		{"kill -9 of a function", 16, func(context.Context) bool { return s.one(s.f.functions).kill() }},
		{"kill -9 of an event store", 8, func(context.Context) bool { return s.one(s.f.stores).kill() }},
		{"kill -9 of a NATS server", 3, s.killServer},
		{"pause of a process", 3, s.pause},
		{"JetStream wiped", 1, s.wipe},
	}
	if len(s.f.servers) > 1 {
		all = append(all, fault{"kill -9 of a stream's leader", 8, s.killLeader})
	}
	if s.pg != nil {
		all = append(all, fault{"PostgreSQL backends terminated", 16, s.terminate})
	}
	return all
}

// run does harm until ctx ends.
func (s *saboteur) run(ctx context.Context) {
	all := s.faults()
	sum := 0
	for _, f := range all {
		sum += f.weight
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(100*time.Millisecond + time.Duration(s.rand.Int64N(int64(900*time.Millisecond)))):
		}
		n := s.rand.IntN(sum)
		for _, f := range all {
			if n -= f.weight; n < 0 {
				name := f.name
				if !f.do(ctx) {
					name = "without effect: " + name // it did not run, or could not be asked
				}
				if ctx.Err() == nil {
					s.f.count(name)
				}
				break
			}
		}
	}
}

func (s *saboteur) one(of []*process) *process { return of[s.rand.IntN(len(of))] }

func (s *saboteur) moment(most time.Duration) time.Duration {
	return time.Duration(s.rand.Int64N(int64(most)))
}

func (s *saboteur) killServer(context.Context) bool {
	release := s.one(s.f.servers).holdBack()
	time.Sleep(s.moment(time.Second))
	release()
	return true
}

func (s *saboteur) killLeader(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	stream, err := s.js.Stream(ctx, streams[s.rand.IntN(len(streams))])
	if err != nil || stream.CachedInfo().Cluster == nil {
		return false
	}
	for _, p := range s.f.servers {
		if p.name == stream.CachedInfo().Cluster.Leader {
			release := p.holdBack()
			time.Sleep(s.moment(2 * time.Second))
			release()
			return true
		}
	}
	return false
}

func (s *saboteur) pause(context.Context) bool {
	all := s.f.all()
	return s.one(all).pause(100*time.Millisecond + s.moment(2*time.Second))
}

// wipe deletes everything that JetStream has.
func (s *saboteur) wipe(context.Context) bool {
	var releases []func()
	for _, p := range s.f.servers {
		releases = append(releases, p.holdBack())
	}
	for _, p := range s.f.servers {
		if err := os.RemoveAll(s.f.storeDir(p.name)); err != nil {
			s.f.broke(err)
		}
	}
	for _, release := range releases {
		release()
	}
	return true
}

// absences keep all replicas of a function away again and again until ctx ends, so
// long that orders wait for it in vain. A run of less than a minute has none: there
// would be little else in it.
func (f *fleet) absences(ctx context.Context, random *rand.Rand) {
	end, _ := ctx.Deadline()
	steps := []struct {
		function string
		longest  time.Duration
	}{{"payment", limits.Payment}, {"shipping", limits.Shipping}, {"review", limits.Review}}
	for n := 0; ; n++ {
		sleep(ctx, time.Second+time.Duration(random.Int64N(int64(20*time.Second))))
		step := steps[n%len(steps)]
		if ctx.Err() != nil || time.Until(end) < 2*step.longest {
			return
		}
		var releases []func()
		for _, p := range f.functions {
			if slices.Contains(p.args, step.function) {
				releases = append(releases, p.holdBack())
			}
		}
		sleep(ctx, step.longest+time.Duration(random.Int64N(int64(time.Second))))
		for _, release := range releases {
			release()
		}
		f.count("absence of " + step.function)
	}
}

func (s *saboteur) terminate(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return s.pg.terminate(ctx, 1+s.rand.IntN(4)) == nil
}

// databases are two of a PostgreSQL server, made for this run.
type databases struct {
	server         string // URL
	events, orders string // names
}

func makeDatabases(ctx context.Context, server, name string) (*databases, error) {
	d := &databases{server: server, events: name + "_events", orders: name + "_orders"}
	for _, db := range []string{d.events, d.orders} {
		if err := d.exec(ctx, "CREATE DATABASE "+pgx.Identifier{db}.Sanitize()); err != nil {
			return nil, fmt.Errorf("make database %s: %w", db, err)
		}
	}
	return d, nil
}

func (d *databases) drop(ctx context.Context) error {
	for _, db := range []string{d.events, d.orders} {
		if err := d.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{db}.Sanitize()+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop database %s: %w", db, err)
		}
	}
	return nil
}

// terminate ends some connections to the databases, at the server.
func (d *databases) terminate(ctx context.Context, n int) error {
	return d.exec(ctx, "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname IN ($1, $2)"+
		" AND pid <> pg_backend_pid() ORDER BY random() LIMIT $3) AS chosen", d.events, d.orders, n)
}

func (d *databases) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is left to say
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// url is that of one of the databases.
func (d *databases) url(database string) (string, error) {
	u, err := url.Parse(d.server)
	if err != nil {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}
