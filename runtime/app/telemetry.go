package app

import (
	"context"

	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/telemetry"
)

// startTelemetry comes first, so that it ends last: what the others do at their
// end is told too.
func (p *process) startTelemetry(ctx context.Context, w work) (err error) {
	var parts []string
	if !w.processes {
		parts = names(w.functions)
	}
	if w.store {
		parts = append(parts, EventStore)
	}
	p.telemetry, err = telemetry.Open(ctx, telemetry.Options{
		Program: p.program.Name, Release: p.program.Release, Functions: parts,
		Metrics: p.settings.MetricsListen != "", Connection: &p.connection, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.onStop(func(ctx context.Context) error {
		if err := p.telemetry.Close(ctx); err != nil {
			p.log.Warn("traces were lost", "error", err) // orders were not
		}
		return nil
	})
	return nil
}

// relayed tells where the relay stands.
func relayed(r *relay.Relay) func() (leads bool, streams []telemetry.RelayedStream) {
	return func() (bool, []telemetry.RelayedStream) {
		var all []telemetry.RelayedStream
		for _, s := range r.Status() {
			all = append(all, telemetry.RelayedStream{Name: s.Stream, Position: s.Relayed, Head: s.Head, Stopped: s.Problem != "", Lag: s.Lag})
		}
		return r.Leads(), all
	}
}
