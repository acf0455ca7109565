package order

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/govalues/decimal"
)

// Money is an amount in hundredths of its currency's unit: 12.50 is 1250. In
// JSON it is a number without needless digits: 12.5, 400.
type Money int64

// Places is how many decimal places an amount has at most.
const Places = 2

var (
	errMoney    = errors.New("must be a number with at most two decimal places, like 12.5")
	errTooLarge = errors.New("is too large")
)

// ParseMoney reads a decimal like 200, 12.5 or 1e2, exactly.
func ParseMoney(s string) (Money, error) {
	// The longest number that could be right is far below this; a huge one is
	// refused before anyone counts its digits.
	const longest = 40
	if len(s) == 0 || len(s) > longest {
		return 0, errMoney
	}
	if isHuge(s) {
		return 0, errTooLarge
	}
	if !keepsDigits(s) {
		return 0, errMoney
	}
	d, err := decimal.Parse(s)
	if err != nil {
		return 0, errMoney
	}
	d = d.Trim(0)
	if d.Scale() > Places {
		return 0, errMoney
	}
	whole, frac, ok := d.Int64(Places)
	if !ok || whole > maxWhole || whole < -maxWhole {
		return 0, errTooLarge
	}
	return Money(whole*100 + frac), nil
}

// isHuge tells of a number like 1e99 that it is one, and larger than any amount.
func isHuge(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	return (err == nil || errors.Is(err, strconv.ErrRange)) && math.Abs(f) > 2*maxWhole && !math.IsNaN(f)
}

// keepsDigits tells whether decimal.Parse keeps every digit of s. It rounds
// what is longer, so that 1e-30 would be nothing, and 199.999...9 be 200.
func keepsDigits(s string) bool {
	mantissa, power, hasPower := strings.Cut(strings.ToLower(strings.TrimLeft(s, "+-")), "e")
	whole, frac, _ := strings.Cut(mantissa, ".")
	frac = strings.TrimRight(frac, "0")
	exponent := 0
	if hasPower {
		var err error
		if exponent, err = strconv.Atoi(power); err != nil {
			return false
		}
	}
	return len(whole)+len(frac) <= decimal.MaxPrec && len(frac)-exponent <= decimal.MaxScale
}

// maxWhole leaves room for the hundredths.
const maxWhole = 90_000_000_000_000_000

// UnmarshalJSON takes a JSON number; anything else is refused.
func (m *Money) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '-' && (data[0] < '0' || data[0] > '9') {
		return errMoney
	}
	v, err := ParseMoney(string(data))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

// MarshalJSON writes a JSON number.
func (m Money) MarshalJSON() ([]byte, error) { return []byte(m.String()), nil }

// JSONSchema says what the JSON is.
func (Money) JSONSchema() string { return `{"type":"number"}` }

// UnmarshalText reads a setting.
func (m *Money) UnmarshalText(text []byte) error {
	v, err := ParseMoney(string(text))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

// String writes the amount without needless digits.
func (m Money) String() string {
	sign, n := "", uint64(m) //nolint:gosec // the sign is taken off next
	if m < 0 {
		sign, n = "-", -n
	}
	s := sign + strconv.FormatUint(n/100, 10)
	switch cents := n % 100; {
	case cents == 0:
		return s
	case cents%10 == 0:
		return s + "." + strconv.FormatUint(cents/10, 10)
	default:
		return s + fmt.Sprintf(".%02d", cents)
	}
}

// Limit is an amount that may not be exceeded; made by [AtMost]. The zero value
// bounds nothing, and is "none" in settings.
type Limit int64 // the least amount that is too much; 0 if none is

// AtMost bounds an amount; m is not negative.
func AtMost(m Money) Limit { return Limit(m + 1) }

// UnmarshalText reads a setting.
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		*l = 0
		return nil
	}
	m, err := ParseMoney(string(text))
	if err != nil {
		return fmt.Errorf("%w, or none", err)
	}
	if m < 0 {
		return errors.New("is below the least, 0")
	}
	*l = AtMost(m)
	return nil
}

// Exceeded tells whether the amount is above the limit.
func (l Limit) Exceeded(m Money) bool { return l != 0 && m >= Money(l) }

// String writes the limit as a setting has it.
func (l Limit) String() string {
	if l == 0 {
		return "none"
	}
	return Money(l - 1).String()
}
