package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

type commands struct {
	Up  upCommand  `cmd:"" default:"1" help:"Run everything in this process; what no command means."`
	Run runCommand `cmd:"" help:"Run some functions, or the event store, against the NATS server at NATS_URL."`
	Ls  lsCommand  `cmd:"" help:"List what runs: where, how many, how far behind."`

	Trace       traceCommand   `cmd:"" help:"Show what happened to an order, or whatever the events are of: what caused what, and when."`
	Deadletters lettersCommand `cmd:"" help:"Look at what functions could not handle; have it handled again, or drop it."`

	Refill refillCommand `cmd:"" help:"Have a JetStream stream made anew from SQL."`
	Forget forgetCommand `cmd:"" help:"Forget how far a function has come, that no longer runs."`

	Rebuild rebuildCommand `cmd:"" help:"Make a function's view anew, beside the one that is in use."`

	Provision provisionCommand `cmd:"" help:"Make what functions need in JetStream, so that they need no right to."`
	Nkeys     nkeysCommand     `cmd:"" help:"Make a key for each function, for a NATS server that asks for them."`
	Export    exportCommand    `cmd:"" help:"Write all events of a stream to a file: a backup, or what import takes."`
	Import    importCommand    `cmd:"" help:"Store the events of a file of export's in a database that does not have them."`
	Manifests manifestsCommand `cmd:"" help:"Print what runs the functions on Kubernetes, scaled by KEDA."`

	Version kong.VersionFlag `help:"Print the release." hidden:""`
}

// commandName is what the program was started as, for the examples.
func commandName() string { return filepath.Base(os.Args[0]) }

type upCommand struct {
	Processes bool `help:"Run each function as processes of its own, as many as its work needs: none where none is needed."`
}

// Help is shown by up --help.
func (upCommand) Help() string {
	return "Example: start everything, with its data under ./data:\n\n  $ " + commandName() + " up\n\nUse a NATS server that is there instead of the embedded one:\n\n  $ " + commandName() + " up --nats-url nats://127.0.0.1:4222\n\nEach function as processes of its own, which come and go with the work:\n\n  $ " + commandName() + " up --processes"
}

// Run runs all functions, the event store, and a NATS server unless one is
// named, until ctx ends.
func (c upCommand) Run(ctx context.Context, s *session) error {
	return s.run(ctx, work{
		functions: s.program.Functions, processes: c.Processes,
		store: true, server: s.settings.NATSURL == "" && s.settings.NATSContext == "",
	})
}

type runCommand struct {
	Names []string `arg:"" name:"name" help:"One or more of: ${names}."`
}

// Help is shown by run --help.
func (runCommand) Help() string {
	return "Example: a second payment beside what runs already:\n\n  $ " + commandName() + " run payment\n\nReplicas share the work. Stop one with SIGTERM: it finishes what it began."
}

// Run runs the named functions until ctx ends.
func (c runCommand) Run(ctx context.Context, s *session) error {
	var functions []function.Function
	store := false
	for _, name := range c.Names {
		i := slices.IndexFunc(s.program.Functions, func(f function.Function) bool { return f.Name == name })
		switch {
		case name == EventStore:
			store = true
		case i < 0:
			return fmt.Errorf("run %q: there is no such function; there are %s", name, strings.Join(s.program.names(), ", "))
		case !slices.ContainsFunc(functions, func(f function.Function) bool { return f.Name == name }):
			functions = append(functions, s.program.Functions[i])
		}
	}
	return s.run(ctx, work{functions: functions, store: store})
}

// run starts the parts in the order of their need, waits for ctx, and stops
// them the other way round.
func (s *session) run(ctx context.Context, w work) error {
	began := time.Now()
	p := &process{session: s}
	if w.server || w.store {
		if err := os.MkdirAll(s.settings.DataDir, 0o750); err != nil {
			return &config.Error{Variable: "DATA_DIR", Value: s.settings.DataDir, Reason: errors.Unwrap(err).Error()}
		}
	}
	for _, r := range s.program.resources(w.functions) {
		if c := r.Config(); c != nil {
			if err := config.Load(ctx, s.lookup, c); err != nil {
				return err
			}
		}
	}
	parts := names(w.functions)
	if w.store {
		parts = append([]string{EventStore}, parts...)
	}
	runs := strings.Join(parts, ",")
	err := p.start(ctx, w)
	if err == nil {
		p.health.began()
		s.log.Info("ready", "took", time.Since(began).Round(time.Millisecond), "nats", p.natsURL, "runs", runs)
		select {
		case <-ctx.Done():
			s.log.Info("stopping", "timeout", s.settings.DrainTimeout, "runs", runs)
		case err = <-p.failed:
		}
	}
	// What asked for the stop is no reason to break off what is under way.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.DrainTimeout)
	defer cancel()
	stopped := p.stop(drain)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	if err = errors.Join(err, stopped); err == nil {
		s.log.Info("stopped", "runs", runs)
	}
	return err
}

func names(functions []function.Function) []string {
	all := make([]string, len(functions))
	for i, f := range functions {
		all[i] = f.Name
	}
	return all
}
