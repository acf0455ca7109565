package postgres_test

import (
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

// TestConformance keeps a list of all that is sent to the database too.
func TestConformance(t *testing.T) {
	pgtest.Statements(t, func(r *pgtest.Recorder) {
		o := postgres.Options{}.WithTracer(r)
		storetest.Run(t, func(t *testing.T) eventstore.Store { return open(t, pgtest.Database(t), o) })
		storetest.RunBackend(t, func(t *testing.T) eventstore.Backend { return open(t, pgtest.Database(t), o) })
	})
}
