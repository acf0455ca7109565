package postgres_test

import (
	"testing"

	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t testing.TB, url string, o ...postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, o...)
	return storetest.Opened(t, s, err)
}
