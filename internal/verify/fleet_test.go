package verify

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// TestBuild: functions come back as either build, those of a database never go
// back once one of them was this build, and servers are not part of it.
func TestBuild(t *testing.T) {
	server, store, beside, step := &process{}, &process{database: eventsDatabase}, &process{database: eventsDatabase}, &process{}
	f := &fleet{
		program: "new", previous: "old", servers: []*process{server}, counts: map[string]int{}, upgraded: map[string]bool{},
		rand: rand.New(rand.NewPCG(1, 1)),
	}
	runs := map[*process]string{}
	var both []string
	for range 20 {
		for _, p := range []*process{server, store, step} {
			runs[p] += f.build(p)[:1]
		}
		both = append(both, runs[store][len(runs[store])-1:], f.build(beside)[:1])
	}
	if !regexp.MustCompile("^o+n+$").MatchString(strings.Join(both, "")) {
		t.Errorf("the two of a database ran %s", both)
	}
	for p, want := range map[*process]string{server: "^n+$", store: "^o+n+$", step: "^o.*n.*o"} {
		if got := runs[p]; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("ran %s, want %s", got, want)
		}
	}
	if n := f.counts["start of this build"] + f.counts["start of the previous build"]; n != 60 {
		t.Errorf("counted %v", f.counts)
	}
	f.previous = ""
	if got := f.build(step); got != "new" {
		t.Errorf("without a previous build it ran %q", got)
	}
}
