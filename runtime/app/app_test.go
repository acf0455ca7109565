package app

import (
	"context"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/runtime/function"
)

// TestSubjectsAreOnesOwn: what two answer to would be handled twice, and what is
// the runtime's would stop it.
func TestSubjectsAreOnesOwn(t *testing.T) {
	at := func(name, subject string) function.Function {
		return function.Function{Name: name, Doors: []function.Door{
			function.Endpoint(subject, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }),
		}}
	}
	for subject, says := range map[string]string{
		"loans.ask": `function "first" too`, "deadletters.list": "runtime's own", "eventstore.refill": "runtime's own",
		"feed.LOANS.x": "runtime's own", "TIMERS.x": "runtime's own", "DEADLETTERS.buried": "runtime's own", "loans.tell": "",
	} {
		err := Program{Functions: []function.Function{at("first", "loans.ask"), at("second", subject)}}.check()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), subject)) {
			t.Errorf("%s: %v, want %q", subject, err, says)
		}
	}
}
