// Package crash ends this process at a point that has a name, as a power cut
// would: for `waybill verify`, which then shows that nothing is lost. Nothing
// happens unless WAYBILL_CRASH says so.
package crash

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Variable names the point to crash at, and how long after the process began:
// after-append@1500ms.
const Variable = "WAYBILL_CRASH"

// The points: between which two lines a crash may do harm.
const (
	BeforeCommit = "before-commit" // an event store: events are written, and not committed
	AfterCommit  = "after-commit"  // an event store: committed, and neither answered nor relayed
	AfterPublish = "after-publish" // an event store: sent to JetStream, and not acknowledged
	BeforeAppend = "before-append" // a function: decided, as after a debit, and not appended
	AfterAppend  = "after-append"  // a function: appended, and neither answered nor acknowledged
	AfterEffect  = "after-effect"  // a function: moved money elsewhere, as a debit or its undoing, and appended nothing yet
	BeforeAck    = "before-ack"    // a function: all is done but the acknowledgement
)

// armed is the point to crash at; nil when there is none.
var armed = parse(os.Getenv(Variable), time.Now())

type plan struct {
	point string
	from  time.Time
}

func parse(value string, began time.Time) *plan {
	if value == "" {
		return nil
	}
	point, after, _ := strings.Cut(value, "@")
	wait, err := time.ParseDuration(after)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s=%q: want POINT@DURATION\n", Variable, value)
		os.Exit(2)
	}
	return &plan{point, began.Add(wait)}
}

// At ends the process, without any of its endings, if this is the point and the
// time has come.
func At(point string) {
	if armed == nil || armed.point != point || time.Now().Before(armed.from) {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // until the signal is here
}
