package sqlite

import (
	"context"

	"github.com/waybill-go/waybill/eventstore"
)

// SaveDurables implements eventstore.Backend. It waits for the commit that
// runs, if one does.
func (s *Store) SaveDurables(ctx context.Context, stream string, durables []eventstore.Durable) error {
	what := "save durables of " + stream
	if err := ctx.Err(); err != nil {
		return eventstore.Away(ctx, what, err)
	}
	w := s.writer
	err := w.transact(func() (bool, error) {
		background := context.Background() // see transact
		if _, err := w.conn.ExecContext(background, "DELETE FROM durables WHERE stream = ?", stream); err != nil {
			return false, err
		}
		for _, d := range durables {
			_, err := w.conn.ExecContext(background, "INSERT INTO durables (stream, name, config, floor) VALUES (?, ?, ?, ?)",
				stream, d.Name, string(d.Config), signed(d.Floor))
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return eventstore.Away(context.Background(), what, err) // it was tried, whatever became of ctx
	}
	return nil
}

// Durables implements eventstore.Backend.
func (r *reader) Durables(ctx context.Context, stream string) ([]eventstore.Durable, error) {
	what := "read durables of " + stream
	rows, err := r.saved.QueryContext(ctx, stream)
	if err != nil {
		return nil, eventstore.Away(ctx, what, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var durables []eventstore.Durable
	for rows.Next() {
		var d eventstore.Durable
		if err := rows.Scan(&d.Name, (*[]byte)(&d.Config), &d.Floor); err != nil {
			return nil, eventstore.Away(ctx, what, err)
		}
		durables = append(durables, d)
	}
	if err := rows.Err(); err != nil {
		return nil, eventstore.Away(ctx, what, err)
	}
	return durables, nil
}
