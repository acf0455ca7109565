package order

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of an order.
const (
	MaxItems    = 500
	MaxQuantity = 10_000
	MaxPrice    = Money(1_000_000_00)
	MaxText     = 200 // characters of a code or a name
	// MaxTextBytes bounds all codes and names together, so that an order fits
	// into one event.
	MaxTextBytes = 256 << 10
	MaxID        = 64

	DefaultCurrency = "USD"
)

// FieldError says which field of an order is wrong, and what is allowed.
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// Invalid tells the runtime, which knows no orders, what to refuse.
func (e *FieldError) Invalid() (field, reason string) { return e.Field, e.Reason }

// DeclinedError is the answer of who was asked to move money or goods, and does
// not: that is an outcome, and stands.
type DeclinedError struct {
	Reason string // for the customer to read
}

func (e *DeclinedError) Error() string { return cmp.Or(e.Reason, "declined, and nobody said why") }

// Place makes the event of a new order, with its amount, or says which field
// is wrong. An order without a currency is in DefaultCurrency.
func Place(id, customer, restaurant, currency string, items []Item, now time.Time) (Created, error) {
	if currency == "" {
		currency = DefaultCurrency
	}
	for _, f := range []struct{ field, value string }{
		{"order_id", id}, {"customer_id", customer}, {"restaurant_id", restaurant},
	} {
		if err := CheckID(f.field, f.value); err != nil {
			return Created{}, err
		}
	}
	if err := CheckCurrency("currency", currency); err != nil {
		return Created{}, err
	}
	amount, err := total(items)
	if err != nil {
		return Created{}, err
	}
	return Created{
		ID: id, Customer: customer, Restaurant: restaurant, CreatedOn: now.UTC(),
		Currency: currency, Amount: amount, Items: items,
	}, nil
}

// total checks the items and adds them up. The greatest order there can be is
// far below what Money holds.
func total(items []Item) (Money, error) {
	if len(items) == 0 || len(items) > MaxItems {
		return 0, wrong("order_items", "are %d; an order has 1 to %d", len(items), MaxItems)
	}
	var sum Money
	text := 0
	for i, item := range items {
		field := func(name string) string { return fmt.Sprintf("order_items[%d].%s", i, name) }
		if err := CheckText(field("code"), item.Code); err != nil {
			return 0, err
		}
		if err := CheckText(field("name"), item.Name); err != nil {
			return 0, err
		}
		if item.UnitPrice < 0 || item.UnitPrice > MaxPrice {
			return 0, wrong(field("unit_price"), "is %v; allowed are 0 to %v", item.UnitPrice, MaxPrice)
		}
		if item.Quantity < 1 || item.Quantity > MaxQuantity {
			return 0, wrong(field("quantity"), "is %d; allowed are 1 to %d", item.Quantity, MaxQuantity)
		}
		sum += item.UnitPrice * Money(item.Quantity)
		if text += len(item.Code) + len(item.Name); text > MaxTextBytes {
			return 0, wrong("order_items", "have codes and names of more than %d bytes together", MaxTextBytes)
		}
	}
	return sum, nil
}

// CheckID says whether id can be an id: [A-Za-z0-9_-]{1,64}.
func CheckID(field, id string) error {
	ok := id != "" && len(id) <= MaxID
	for _, c := range id {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}
	switch {
	case id == "":
		return wrong(field, "is missing")
	case !ok:
		return wrong(field, "is %.80q; an id matches [A-Za-z0-9_-]{1,%d}", id, MaxID)
	}
	return nil
}

// CheckCurrency says whether code is that of a currency.
func CheckCurrency(field, code string) error {
	if !isCurrency(code) {
		return wrong(field, "is %.20q; it must be a currency's code after ISO 4217, like USD", code)
	}
	return nil
}

// CheckText says whether s can be a text for people: 1 to MaxText characters, and
// no control character.
func CheckText(field, s string) error {
	switch {
	case s == "":
		return wrong(field, "is missing")
	case utf8.RuneCountInString(s) > MaxText:
		return wrong(field, "has more than %d characters", MaxText)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return wrong(field, "has a control character")
	}
	return nil
}

func wrong(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// SameAs tells whether an order was placed with what the event says, apart
// from when.
func (o Order) SameAs(c Created) bool {
	return o.ID == c.ID && o.Customer == c.Customer && o.Restaurant == c.Restaurant &&
		o.Currency == c.Currency && slices.Equal(o.Items, c.Items)
}
