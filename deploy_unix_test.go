//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// natsServer is what nats-server makes of a command line.
func natsServer(t *testing.T, args []string) *server.Options {
	t.Helper()
	opts, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), args, nil, nil, nil)
	if err != nil {
		t.Fatalf("nats-server refuses %q: %v", args, err)
	}
	return opts
}

// TestComposeStartsNATS as nats-server takes it, with JetStream on the volume.
func TestComposeStartsNATS(t *testing.T) {
	compose, err := os.ReadFile("deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	service := regexp.MustCompile(`(?s)\n  nats:\n.*?\n\n`).Find(compose)
	line := regexp.MustCompile(`command: (\[.*\])`).FindSubmatch(service)
	dir := regexp.MustCompile(`working_dir: (.*)`).FindSubmatch(service)
	var args []string
	if line == nil || dir == nil || json.Unmarshal(line[1], &args) != nil {
		t.Fatalf("no command in %s", service)
	}
	for i, arg := range args {
		if arg == "/etc/nats/nats.conf" {
			args[i] = "nats.conf" // which is mounted there
		}
	}
	opts := natsServer(t, args)
	if store := filepath.Join(string(dir[1]), opts.StoreDir); opts.Host != "0.0.0.0" || store != "/data/jetstream" {
		t.Errorf("it listens on %s, and keeps JetStream in %s", opts.Host, store)
	}
}

// TestScriptOfProcesses has deploy/processes.sh start and end everything, with programs
// that do nothing but write down how they were started.
func TestScriptOfProcesses(t *testing.T) {
	bin, data := t.TempDir(), t.TempDir()
	started := func() []string {
		text, _ := os.ReadFile(filepath.Join(data, "started"))
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	const notes = "#!/bin/sh\necho $$ \"$0\" \"$@\" >>\"$DATA_DIR/started\"\nexec sleep 600\n"
	for name, script := range map[string]string{
		"nats-server": notes, "waybill": notes, "go": "#!/bin/sh\ncp \"" + bin + "/waybill\" \"$3\"\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "deploy/processes.sh", "-p", "5222")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DATA_DIR="+data)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	eventually(t, "start all", func() error {
		if n := len(started()); n != 1+1+len(waybill().Functions)+1 { // NATS, the event store, a second payment
			return fmt.Errorf("%d were started", n)
		}
		return nil
	})
	for _, line := range started() {
		if words := strings.Fields(line); strings.HasSuffix(words[1], "/nats-server") {
			if opts := natsServer(t, words[2:]); opts.StoreDir != filepath.Join(data, "jetstream") || opts.Port != 5222 || opts.MaxConn != 10000 {
				t.Errorf("nats-server would keep JetStream in %s, and listen on %d", opts.StoreDir, opts.Port)
			}
		}
	}
	for range 3 { // of an impatient one
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	for _, line := range started() {
		pid, err := strconv.Atoi(strings.Fields(line)[0])
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("it left %s", line)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
