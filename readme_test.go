package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// TestReadmeGo holds the Go of README.md to what it is said to be: payment,
// cancelorder and the booking are the files themselves; the timer and the test run.
func TestReadmeGo(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range []string{
		"functions/payment/payment.go", "functions/cancelorder/cancelorder.go", "deploy/examples/booking/main.go", "deploy/examples/booking/booking.go",
	} {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[string(code)] = name
	}
	sources := map[string]string{}
	for _, block := range strings.Split(string(readme), "```go\n")[1:] {
		code, _, _ := strings.Cut(block, "```")
		switch {
		case strings.Contains(code, "type overdue struct"):
			sources["overdue.go"] = source("package overdue", code, "context", "iter", "time", module+"functions/order", module+"runtime/function")
		case strings.Contains(code, "func TestCancel("):
			sources["overdue_test.go"] = source("package overdue_test\n\nimport overdue \""+module+"functions/readme\"", code,
				"testing", module+"functions/cancelorder", module+"functions/order", module+"runtime/function", module+"runtime/functiontest")
		case files[code] != "":
			delete(files, code)
		default:
			t.Errorf("README has Go that is nobody's file:\n%.200s", code)
		}
	}
	for _, name := range files {
		t.Errorf("README does not have %s as it is", name)
	}
	if len(sources) != 2 {
		t.Fatalf("README has %d of 2 examples that are run", len(sources))
	}
	passes(t, "functions/readme", sources)
}

// source is a file with what README leaves out of its examples.
func source(head, code string, imports ...string) string {
	return head + "\n\nimport (\n\t\"" + strings.Join(imports, "\"\n\t\"") + "\"\n)\n\n" + code
}

// passes runs the tests of a package of this module that is nowhere but in
// these sources.
func passes(t *testing.T, dir string, sources map[string]string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	temp, replace := t.TempDir(), map[string]string{}
	for name, code := range sources {
		file := filepath.Join(temp, name)
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, dir, name)] = file
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	// The package has no folder to run in: it is built here, and run by itself.
	test := filepath.Join(temp, "readme.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", list, "-o", test, "./"+dir).CombinedOutput(); err != nil {
		t.Fatalf("README's examples do not compile: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), test).CombinedOutput(); err != nil {
		t.Errorf("README's test fails: %v\n%s", err, out)
	}
}

// TestReadmeRequests makes the requests of README.md as `nats req` would: those of
// a block on a system that has the settings which README names for it. Only those
// of dead letters are left out, whose ids are nobody's.
func TestReadmeRequests(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(readme), "```sh\n")
	systems, made := map[string]*nats.Conn{}, 0
	for rest != "" {
		var block string
		block, rest, _ = strings.Cut(rest, "```")
		requests := readmeRequest.FindAllStringSubmatch(block, -1)
		settings := ""
		if m := readmeSettings.FindStringSubmatch(before); m != nil {
			settings = m[1]
		}
		if len(requests) > 0 && systems[settings] == nil {
			s := newSystem(t)
			s.start("up", strings.Fields(settings)...).ready()
			systems[settings] = s.connect()
		}
		for _, r := range requests {
			made++
			eventually(t, r[0], func() error { return natsError(systems[settings].Request(r[1], []byte(r[2]), 5*time.Second)) })
		}
		before, rest, _ = strings.Cut(rest, "```sh\n")
	}
	if made < 15 || len(systems) != 4 {
		t.Errorf("README has %d requests, for %d systems", made, len(systems))
	}
}

var (
	readmeRequest  = regexp.MustCompile(`(?m)^nats req (?:-H \S+ )?((?:orders|accounts)\.\w+) '(.*)'`)
	readmeSettings = regexp.MustCompile("`([A-Z_=a-z0-9 ]+) go run \\.`.*\n\n$")
)

// natsError is what a reply says of an error.
func natsError(reply *nats.Msg, err error) error {
	if err == nil && reply.Header.Get(micro.ErrorCodeHeader) != "" {
		err = fmt.Errorf("%s: %s", reply.Header.Get(micro.ErrorCodeHeader), reply.Data)
	}
	return err
}
