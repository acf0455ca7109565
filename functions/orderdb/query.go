package orderdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/waybill-go/waybill/functions/order"
)

// Get answers an order; the zero order when there is none.
func (db *DB) Get(ctx context.Context, id string) (order.Order, error) {
	var body []byte
	err := db.get.QueryRowContext(ctx, id).Scan(&body)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return order.Order{}, nil
	case err != nil:
		return order.Order{}, failed("read order "+id, err)
	}
	return decode(body)
}

func decode(body []byte) (order.Order, error) {
	var o order.Order
	if err := json.Unmarshal(body, &o); err != nil {
		return order.Order{}, fmt.Errorf("read order: %w", err)
	}
	return o, nil
}

// Filter says which orders to list; what is empty says nothing.
type Filter struct {
	Customer string
	Status   order.Status
}

// ParseCursor reads a cursor: the position of the last order of a page. Lists
// begin below it, so orders that come meanwhile shift nothing.
func ParseCursor(cursor string) (uint64, error) {
	if cursor == "" {
		return 1 << 62, nil
	}
	n, err := strconv.ParseUint(cursor, 36, 62)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("read cursor %.20q: not one of ours", cursor)
	}
	return n, nil
}

// maxPageBytes bounds a page, since NATS carries 1 MB in a message. A single
// order is below it.
const maxPageBytes = 512 << 10

// List answers at most limit orders, newest first, and the cursor of the next
// page; empty when this is the last. A page of large orders is shorter.
func (db *DB) List(ctx context.Context, f Filter, cursor string, limit int) ([]order.Order, string, error) {
	before, err := ParseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	query, args := f.query(before, limit+1) // one more tells whether there is more
	rows, err := db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, "", failed("list orders", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	orders, last, size := []order.Order{}, uint64(0), 0
	for rows.Next() {
		var placed uint64
		var body []byte
		if err := rows.Scan(&placed, &body); err != nil {
			return nil, "", failed("list orders", err)
		}
		size += len(body)
		if len(orders) == limit || len(orders) > 0 && size > maxPageBytes {
			return orders, strconv.FormatUint(last, 36), nil
		}
		o, err := decode(body)
		if err != nil {
			return nil, "", err
		}
		orders, last = append(orders, o), placed
	}
	if err := rows.Err(); err != nil {
		return nil, "", failed("list orders", err)
	}
	return orders, "", nil
}

// query is the SQL of a page; each of its forms has an index.
func (f Filter) query(before uint64, limit int) (string, []any) {
	// A bare parameter as LIMIT has SQLite plan the query a second time, with the
	// value.
	query, args := "SELECT placed, body FROM orders WHERE placed < $1", []any{before}
	where := func(column, value string) {
		if value != "" {
			args = append(args, value)
			query += fmt.Sprintf(" AND %s = $%d", column, len(args))
		}
	}
	where("customer_id", f.Customer)
	where("status", string(f.Status))
	args = append(args, limit)
	return query + fmt.Sprintf(" ORDER BY placed DESC LIMIT 0+$%d", len(args)), args
}
