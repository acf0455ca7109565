package orderdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-go/waybill/functions/order"
)

// Get answers an order; the zero order when there is none.
func (db *DB) Get(ctx context.Context, id string) (o order.Order, err error) {
	err = db.reading(ctx, func(t *table) (bool, error) {
		var body []byte
		err := t.get.QueryRowContext(ctx, id, db.view, t.generation).Scan(&body)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return false, nil
		case err != nil:
			return false, failed("read order "+id, err)
		}
		o, err = decode(body)
		return true, err
	})
	return o, err
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
	// CreatedFrom is the first moment of their created_on, and CreatedBefore the
	// first that is too late.
	CreatedFrom, CreatedBefore time.Time
}

// Cursor is the place of an order in lists: when it was placed, in microseconds
// since 1970, and the position of that event. Neither ever changes.
type Cursor struct {
	Created int64
	Placed  uint64
}

// String is what ParseCursor reads.
func (c Cursor) String() string {
	return strconv.FormatInt(c.Created, 36) + "." + strconv.FormatUint(c.Placed, 36)
}

// newest is the cursor of a list's beginning.
var newest = Cursor{Created: math.MaxInt64, Placed: math.MaxInt64}

// ParseCursor reads the cursor of a page: its last order. Lists go on below it,
// so orders that come meanwhile shift nothing. The empty cursor is that of the
// first page.
func ParseCursor(cursor string) (Cursor, error) {
	if cursor == "" {
		return newest, nil
	}
	var c Cursor
	created, placed, ok := strings.Cut(cursor, ".")
	var err1, err2 error
	c.Created, err1 = strconv.ParseInt(created, 36, 64)
	c.Placed, err2 = strconv.ParseUint(placed, 36, 63)
	if !ok || err1 != nil || err2 != nil || c.String() != cursor || c.Placed == 0 {
		return Cursor{}, fmt.Errorf("read cursor %.30q: not one of ours", cursor)
	}
	return c, nil
}

// maxPageBytes bounds a page, since NATS carries 1 MB in a message. A single
// order is below it.
const maxPageBytes = 512 << 10

// List answers at most limit orders, newest first, and the cursor of the next
// page; empty when this is the last. A page of large orders is shorter.
func (db *DB) List(ctx context.Context, f Filter, cursor string, limit int) (orders []order.Order, next string, err error) {
	after, err := ParseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	err = db.reading(ctx, func(t *table) (bool, error) {
		orders, next, err = db.list(ctx, t, f, after, limit)
		return len(orders) > 0, err
	})
	return orders, next, err
}

func (db *DB) list(ctx context.Context, t *table, f Filter, after Cursor, limit int) ([]order.Order, string, error) {
	query, args := f.query(db.kind, t.name, after, limit+1) // one more tells whether there is more
	args = append(args, db.view, t.generation)
	rows, err := db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, "", failed("list orders", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	orders, size := []order.Order{}, 0
	for rows.Next() {
		var at Cursor
		var body []byte
		if err := rows.Scan(&at.Created, &at.Placed, &body); err != nil {
			return nil, "", failed("list orders", err)
		}
		size += len(body)
		if len(orders) == limit || len(orders) > 0 && size > maxPageBytes {
			return orders, after.String(), nil
		}
		o, err := decode(body)
		if err != nil {
			return nil, "", err
		}
		orders, after = append(orders, o), at
	}
	if err := rows.Err(); err != nil {
		return nil, "", failed("list orders", err)
	}
	return orders, "", nil
}

// query is the SQL of a page, less its last two arguments: the view and the
// generation. Each of its forms has an index that is searched by what is asked
// for, and read in the order of the answer.
func (f Filter) query(k kind, table string, after Cursor, limit int) (string, []any) {
	// One bound at each end: of two a database would search by one only.
	if too := micros(f.CreatedBefore); !f.CreatedBefore.IsZero() && too <= after.Created {
		after = Cursor{Created: too}
	}
	query, args := "SELECT created_on, placed, body FROM "+table+k.by(table+f.index())+" WHERE (created_on, placed) < ($1, $2)",
		[]any{after.Created, after.Placed}
	where := func(condition string, value any) {
		args = append(args, value)
		query += fmt.Sprintf(" AND %s $%d", condition, len(args))
	}
	if f.Customer != "" {
		where("customer_id =", f.Customer)
	}
	if f.Status != "" {
		where("status =", string(f.Status))
	}
	if !f.CreatedFrom.IsZero() {
		where("created_on >=", micros(f.CreatedFrom))
	}
	args = append(args, limit)
	n := len(args)
	// A bare parameter as LIMIT has SQLite plan the query a second time, with the
	// value.
	return query + " AND " + isInUse(n+1, n+2) + fmt.Sprintf(" ORDER BY created_on DESC, placed DESC LIMIT 0+$%d", n), args
}

// index ends the name of the index that the list has.
func (f Filter) index() string {
	switch {
	case f.Customer != "" && f.Status != "":
		return "_customer_status"
	case f.Customer != "":
		return "_customer"
	case f.Status != "":
		return "_status"
	default:
		return "_created"
	}
}

// micros is the first whole microsecond that is not before t.
func micros(t time.Time) int64 {
	m := t.UnixMicro()
	if t.After(time.UnixMicro(m)) {
		m++
	}
	return m
}

// names reads rows of one text.
func names(rows *sql.Rows, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}
