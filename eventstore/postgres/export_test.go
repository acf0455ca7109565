package postgres

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// WithIsolation has transactions of another isolation, as a database has that
// knows no READ COMMITTED.
func (o Options) WithIsolation(level pgx.TxIsoLevel) Options { o.isolation = level; return o }

// WithFault has statements fail.
func (o Options) WithFault(fault func(statement string) (err error, after bool)) Options {
	o.fault = fault
	return o
}

// WithTracer has every statement told.
func (o Options) WithTracer(t pgx.QueryTracer) Options { o.tracer = t; return o }

// ReadPool lends the connections for reads.
func (s *Store) ReadPool() *pgxpool.Pool { return s.read }
