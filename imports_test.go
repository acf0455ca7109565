package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/waybill-go/waybill/"

type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// telemetry is what nobody but runtime/telemetry imports.
var telemetry = []string{"go.opentelemetry.io/", "github.com/prometheus/"}

// never says which imports break the house's arrows: for the packages that
// match (path.Match, or a prefix that ends in /), none of these prefixes.
var never = []struct {
	packages string
	except   []string
	imports  []string
}{
	{"eventstore/", nil, []string{module + "runtime/", module + "functions/", module + "internal/"}},
	{"eventstore/relay", nil, []string{module + "eventstore/sqlite", module + "eventstore/postgres", module + "eventstore/rpc", "google.golang.org/grpc"}},
	{"eventstore/rpc", nil, []string{module + "eventstore/sqlite", module + "eventstore/postgres", module + "eventstore/relay", "github.com/nats-io/"}},
	{"eventstore/sqlite", nil, []string{module + "eventstore/postgres", module + "eventstore/relay", module + "eventstore/rpc", "github.com/nats-io/", "google.golang.org/grpc"}},
	{"eventstore/postgres", nil, []string{module + "eventstore/sqlite", module + "eventstore/relay", module + "eventstore/rpc", "github.com/nats-io/", "google.golang.org/grpc", "modernc.org/"}},
	{"eventstore/transfer", nil, []string{module + "eventstore/sqlite", module + "eventstore/postgres", module + "eventstore/relay", module + "eventstore/rpc"}},
	{"eventstore/memory", nil, []string{module + "eventstore/sqlite", module + "eventstore/postgres", module + "eventstore/relay", module + "eventstore/rpc", "database/sql", "github.com/nats-io/"}},
	{"eventstore/groupcommit", nil, []string{module + "eventstore/sqlite", module + "eventstore/postgres", "database/sql", "github.com/nats-io/"}},
	{"runtime/", nil, []string{module + "functions/", module + "internal/"}},
	{"runtime/function", nil, []string{"github.com/nats-io/", "google.golang.org/grpc", "database/sql"}},
	{"runtime/", []string{"runtime/natsserver", "runtime/natsserver/natstest"}, []string{"github.com/nats-io/nats-server"}},
	{"runtime/", []string{"runtime/app"}, []string{module + "eventstore/sqlite", module + "eventstore/postgres", module + "eventstore/rpc", module + "eventstore/transfer"}},
	{"runtime/", []string{"runtime/app", "runtime/host", "runtime/functiontest/hosttest"}, []string{module + "eventstore/relay"}},
	// What is for tests is in no program.
	{"runtime/", []string{"runtime/functiontest", "runtime/functiontest/hosttest"}, []string{module + "eventstore/memory", module + "runtime/functiontest"}},
	// Who watches is handed in, so that what is watched knows no library for it.
	{"eventstore/", nil, telemetry},
	{"runtime/", []string{"runtime/telemetry"}, telemetry},
	{"functions/", nil, telemetry},
	{"functions/", []string{"functions/orderdb"}, []string{"github.com/nats-io/", "database/sql", "modernc.org/", "google.golang.org/", module + "eventstore"}},
	{"functions/orderdb", nil, []string{"github.com/nats-io/", "google.golang.org/", module + "eventstore"}},
}

// only says all that these packages import beside the standard library: of this
// program, and of others. A package in folder/ that is not named is like "*".
var only = map[string][]string{
	"functions/order":    {"github.com/govalues/decimal"},
	"functions/ledger":   {"runtime/function", "functions/order"},
	"functions/orderdb":  {"runtime/function", "functions/order", "github.com/jackc/pgx/", "modernc.org/sqlite", "github.com/gofrs/flock"},
	"functions/gateway":  {"runtime/function", "functions/order", "github.com/danielgtaylor/huma/v2", "golang.org/x/net/netutil", "github.com/go-json-experiment/json"},
	"functions/*":        {"runtime/function", "functions/order", "functions/orderdb", "functions/ledger", "github.com/google/uuid"},
	"internal/crash":     {},
	"internal/migration": {"github.com/pressly/goose/v3", "github.com/jackc/pgx/v5/pgconn"},
}

// allowed is what a package may import, if only says.
func allowed(name string) (list []string, ok bool) {
	if list, ok = only[name]; !ok {
		dir, _ := path.Split(name)
		list, ok = only[dir+"*"]
	}
	return append(slices.Clone(list), anyone...), ok
}

// anyone are packages without a side, that all may import.
var anyone = []string{"internal/migration", "internal/crash"}

func TestArrowsRunOneWay(t *testing.T) {
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, rule := range never {
			applies := name == rule.packages || strings.HasSuffix(rule.packages, "/") && strings.HasPrefix(name, rule.packages)
			for _, e := range rule.except {
				applies = applies && name != e
			}
			if !applies {
				continue
			}
			for _, i := range p.Imports {
				if slices.Contains(anyone, strings.TrimPrefix(i, module)) {
					continue
				}
				for _, bad := range rule.imports {
					if i == strings.TrimSuffix(bad, "/") || strings.HasPrefix(i, bad) {
						t.Errorf("%s imports %s", name, i)
					}
				}
			}
		}
		list, ok := allowed(name)
		for _, i := range p.Imports {
			first, _, _ := strings.Cut(i, "/")
			if ok && strings.Contains(first, ".") && !slices.ContainsFunc(list, func(a string) bool {
				own := strings.TrimPrefix(i, module)
				return own == a || own == i && strings.HasPrefix(i, a)
			}) {
				t.Errorf("%s imports %s", name, i)
			}
		}
	}
}

// TestPureStaysPure holds the packages that know nothing outside themselves to
// it, with everything that they depend on.
func TestPureStaysPure(t *testing.T) {
	for pkg, allowed := range map[string][]string{
		"eventstore":          nil,
		"eventstore/envelope": {module + "eventstore"},
		"eventstore/transfer": {module + "eventstore"},
		"functions/order":     {"github.com/govalues/decimal"},
	} {
		for _, p := range list(t, "-deps", "./"+pkg) {
			ok := p.Standard || p.ImportPath == module+pkg
			for _, a := range allowed {
				ok = ok || p.ImportPath == a
			}
			if !ok {
				t.Errorf("%s depends on %s", pkg, p.ImportPath)
			}
		}
	}
}
