package app

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/runtime/fleet"
)

var update = flag.Bool("update", false, "make the golden files anew")

// golden holds what is printed to a file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("printed\n%s\nand not, as %s has it,\n%s", got, path, want)
	}
}

func TestLsPrints(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	replica := func(id, host, release string, ago time.Duration) fleet.Instance {
		return fleet.Instance{ID: id, Host: host, PID: "7", Release: release, Started: now.Add(-ago), Done: 6000, Errors: 1}
	}
	services := []*fleet.Service{
		{
			Name: "eventstore", Hosts: []string{}, Releases: []string{}, Instances: []fleet.Instance{},
			Problems: []string{"does not run"},
		},
		{
			Name: "payment", Replicas: 2, Wanted: new(2), Starts: new(3), Hosts: []string{"here", "there"}, Releases: []string{"1.0.0", "1.1.0"},
			Done: 12000, Errors: 2, P50: 812345 * time.Nanosecond, P99: 43200 * time.Microsecond,
			Lag: new(uint64(17)), InHand: new(128), DeadLetters: new(0),
			Instances: []fleet.Instance{replica("a", "here", "1.0.0", 9*24*time.Hour), replica("b", "there", "1.1.0", 40*time.Second)},
			Problems:  []string{"waits: 3 in hand wait: the table\x1b[2J is away"},
		},
		{
			Name: "placeorder", Replicas: 4, Hosts: []string{"here", "there", "elsewhere", "nowhere"}, Releases: []string{"1.1.0"},
			Done: 24000, Errors: 4, P50: 3 * time.Millisecond, P99: 1234567 * time.Microsecond,
			Instances: []fleet.Instance{replica("c", "here", "1.1.0", 5*time.Hour), replica("d", "there", "1.1.0", 5*time.Hour-time.Second)},
		},
	}
	var table, json bytes.Buffer
	if err := printServices(&table, services, now); err != nil {
		t.Fatal(err)
	}
	if err := printJSON(&json, services); err != nil {
		t.Fatal(err)
	}
	golden(t, "ls.txt", table.Bytes())
	golden(t, "ls.json", json.Bytes())
	for line := range strings.Lines(table.String()) {
		if len(line) > 140 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

func TestSince(t *testing.T) {
	now := time.Now()
	for ago, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 1000 * time.Hour: "41d",
	} {
		if got := since(now.Add(-ago), now); got != want {
			t.Errorf("%v ago is %s, want %s", ago, got, want)
		}
	}
}
