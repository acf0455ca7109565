package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/waybill-go/waybill/eventstore"
)

const (
	deleteDurables = "DELETE FROM durables WHERE stream = $1"
	insertDurable  = "INSERT INTO durables (stream, name, config, floor) VALUES ($1, $2, $3, $4)"
	readDurables   = "SELECT name, config, floor FROM durables WHERE stream = $1 ORDER BY name"
)

// SaveDurables implements eventstore.Backend.
func (s *Store) SaveDurables(ctx context.Context, stream string, durables []eventstore.Durable) error {
	err := s.again(ctx, func() error {
		return pgx.BeginTxFunc(ctx, s.read, pgx.TxOptions{}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, deleteDurables, stream); err != nil {
				return err
			}
			for _, d := range durables {
				_, err := tx.Exec(ctx, insertDurable, stream, d.Name, string(d.Config), int64(d.Floor)) //nolint:gosec // a position
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return eventstore.Away(ctx, "save durables of "+stream, err)
	}
	return nil
}

// Durables implements eventstore.Backend.
func (s *Store) Durables(ctx context.Context, stream string) ([]eventstore.Durable, error) {
	var durables []eventstore.Durable
	err := s.again(ctx, func() error {
		rows, err := s.read.Query(ctx, readDurables, stream)
		if err != nil {
			return err
		}
		durables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (eventstore.Durable, error) {
			var d eventstore.Durable
			var floor int64
			err := row.Scan(&d.Name, (*[]byte)(&d.Config), &floor)
			d.Floor = uint64(floor) //nolint:gosec // a position
			return d, err
		})
		return err
	})
	if err != nil {
		return nil, eventstore.Away(ctx, "read durables of "+stream, err)
	}
	if len(durables) == 0 {
		return nil, nil
	}
	return durables, nil
}
