// Package config reads settings from the environment into structs, and gives
// every variable its flag.
//
// A setting is one field:
//
//	type Config struct {
//		Limit   int           `env:"RATE_LIMIT, default=100" min:"1" max:"10000" help:"requests per second"`
//		Timeout time.Duration `env:"RATE_TIMEOUT, default=2s" min:"1ms" max:"1m" help:"how long one may wait"`
//	}
//
// The env tag is that of github.com/sethvargo/go-envconfig. help says in a few
// words what the setting means; min and max bound whole numbers and durations,
// oneof lists the allowed words; secret:"true" says that the value may hold a
// password. A variable that is set to nothing counts as
// not set.
package config

import (
	"context"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethvargo/go-envconfig"
)

// Lookup finds the value of a variable.
type Lookup func(name string) (value string, found bool)

// Lookup makes Lookup usable where envconfig wants one.
func (l Lookup) Lookup(name string) (string, bool) {
	v, found := l(name)
	return v, found && v != ""
}

// First asks one lookup after the other.
func First(lookups ...Lookup) Lookup {
	return func(name string) (string, bool) {
		for _, l := range lookups {
			if v, found := l.Lookup(name); found {
				return v, true
			}
		}
		return "", false
	}
}

// Error says which variable has a bad value, and what is allowed.
type Error struct {
	Variable, Value, Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s=%q: %s", e.Variable, e.Value, e.Reason)
}

// Load fills the structs that targets point to. An error is an [Error] that
// names the variable, its value and the bound.
func Load(ctx context.Context, lookup Lookup, targets ...any) error {
	for _, target := range targets {
		// What was looked at last is what an error is about: envconfig itself
		// names the field and not the variable.
		var name, value string
		remember := func(_ context.Context, key, _, _, current string) (string, bool, error) {
			name, value = key, current
			return current, false, nil
		}
		err := envconfig.ProcessWith(ctx, &envconfig.Config{
			Target: target, Lookuper: lookup, Mutators: []envconfig.Mutator{envconfig.MutatorFunc(remember)},
		})
		if err != nil {
			return &Error{Variable: name, Value: value, Reason: reason(target, name, err)}
		}
		for _, v := range Variables(target) {
			if err := v.check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// reason says what would have been right, rather than what went wrong inside.
func reason(target any, name string, err error) string {
	for _, v := range Variables(target) {
		if v.Name != name {
			continue
		}
		switch v.value.Interface().(type) {
		case time.Duration:
			return "is no duration, like 500ms, 2s or 1m30s"
		case bool:
			return "is neither true nor false"
		}
		_, reads := v.value.Addr().Interface().(encoding.TextUnmarshaler) // it says itself what is wrong
		if !reads && (v.value.CanInt() || v.value.CanUint()) {
			return "is no whole number"
		}
	}
	if _, cause, ok := strings.Cut(err.Error(), ": "); ok {
		return cause // without the name of the Go field
	}
	return err.Error()
}

// Variable describes one setting.
type Variable struct {
	Name    string // NATS_URL
	Default string
	Help    string
	// Secret says that the value may hold a password.
	Secret bool
	value  reflect.Value
	tag    reflect.StructTag
}

// Flag is the variable's flag: --nats-url.
func (v Variable) Flag() string {
	return strings.ReplaceAll(strings.ToLower(v.Name), "_", "-")
}

// Variables lists the settings of the structs that targets point to, in the
// order of their fields. A variable in several of them comes once.
func Variables(targets ...any) []Variable {
	var all []Variable
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		t := v.Type()
		for i := range t.NumField() {
			field := t.Field(i)
			tag, ok := field.Tag.Lookup("env")
			if !ok {
				if field.IsExported() && field.Type.Kind() == reflect.Struct {
					walk(v.Field(i))
				}
				continue
			}
			name, rest, _ := strings.Cut(tag, ",")
			name = strings.TrimSpace(name)
			if slices.ContainsFunc(all, func(o Variable) bool { return o.Name == name }) {
				continue
			}
			_, def, _ := strings.Cut(rest, "default=")
			all = append(all, Variable{
				Name: name, Default: strings.TrimSpace(def), Help: field.Tag.Get("help"), Secret: field.Tag.Get("secret") == "true",
				value: v.Field(i), tag: field.Tag,
			})
		}
	}
	for _, target := range targets {
		walk(reflect.ValueOf(target).Elem())
	}
	return all
}

func (v Variable) check() error {
	if words, ok := v.tag.Lookup("oneof"); ok && !slices.Contains(strings.Split(words, ","), v.value.String()) {
		return v.wrong(v.value.String(), "is none of "+words)
	}
	least, hasLeast := v.tag.Lookup("min")
	most, hasMost := v.tag.Lookup("max")
	if !hasLeast && !hasMost {
		return nil
	}
	shown := fmt.Sprint(v.value.Interface())
	n := v.value.Int()
	if hasLeast && n < v.number(least) {
		return v.wrong(shown, "is below the least, "+least)
	}
	if hasMost && n > v.number(most) {
		return v.wrong(shown, "is above the most, "+most)
	}
	return nil
}

func (v Variable) wrong(value, reason string) error {
	return &Error{Variable: v.Name, Value: value, Reason: reason}
}

// number reads a bound of the field's own type.
func (v Variable) number(bound string) int64 {
	if v.value.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(bound)
		if err != nil {
			panic(fmt.Sprintf("%s: bound %q: %v", v.Name, bound, err)) // its author's mistake
		}
		return int64(d)
	}
	n, err := strconv.ParseInt(bound, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s: bound %q: %v", v.Name, bound, err))
	}
	return n
}
