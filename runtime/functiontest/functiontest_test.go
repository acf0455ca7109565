package functiontest_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told stands for the *testing.T of a test, and keeps what it is told.
type told struct {
	testing.TB
	lines []string
}

type ended struct{}

func (t *told) Errorf(s string, a ...any) { t.lines = append(t.lines, fmt.Sprintf(s, a...)) }
func (t *told) Fatalf(s string, a ...any) { t.Errorf(s, a...); panic(ended{}) }

// tell answers what a test is told, on one line.
func tell(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	to := &told{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != (ended{}) {
				panic(p)
			}
		}()
		test(to)
	}()
	return strings.Join(strings.Fields(strings.Join(to.lines, " ")), " ")
}

var (
	errBroken = errors.New("broken")
	fails     = function.Function{Name: "fails", Doors: []function.Door{
		function.On(func(context.Context, booking, requested) ([]event, error) {
			return nil, fmt.Errorf("it is %w", errBroken)
		}),
		function.Endpoint("fails.now", func(context.Context, struct{}) (int, error) { return 0, errBroken }),
	}}
	forgets = function.Function{Name: "forgets", Doors: []function.Door{ // that it confirmed, so each time anew
		function.Command("bookings.confirm", func(_ context.Context, b booking, _ request) ([]event, error) {
			return []event{confirmed{b.Seats}}, nil
		}),
	}}
)

// TestFailures has checks that fail, and what the test is told; nothing where
// they hold.
func TestFailures(t *testing.T) {
	const ask, body = "bookings.request", `{"booking_id":"b1","seats":2}`
	for name, c := range map[string]struct {
		test func(t testing.TB)
		want string
	}{
		"as expected": {func(t testing.TB) { functiontest.Given(t, confirm).When(requested{"b", 2}).Then(confirmed{2}) }, ""},
		"nothing":     {func(t testing.TB) { functiontest.Given(t, confirm, confirmed{}).When(requested{"b", 2}).ThenNothing() }, ""},
		"too many": {func(t testing.TB) { functiontest.Given(t, confirm).When(requested{"b", 2}).ThenNothing() },
			`other events were appended ("-" is missing, "+" should not be there) + confirmed { + "seats": 2 + }`},
		"too few": {func(t testing.TB) {
			functiontest.Given(t, confirm, confirmed{}).When(requested{"b", 2}).Then(confirmed{2})
		},
			`- confirmed { - "seats": 2 - }`},
		"another type":  {func(t testing.TB) { functiontest.Given(t, confirm).When(requested{"b", 2}).Then(requested{"b", 2}) }, `+ confirmed {`},
		"not refused":   {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, body).ThenRefused(400, "seats") }, "was not refused"},
		"another code":  {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, `{}`).ThenRefused(409, "seats") }, `refused with 400 for the field "seats", and not 409`},
		"another field": {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, `{}`).ThenRefused(400, "booking_id") }, `"seats", and not 400 for "booking_id"`},
		"refused": {func(t testing.TB) {
			functiontest.Given(t, take).WhenAsked(ask, request{"b", 0}).ThenRefused(400, "seats")
		}, ""},
		"unexpectedly": {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, `{}`).Then(requested{}) }, "it failed: seats: are 0"},
		"no reply":     {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, `{}`).ThenReplies(`{}`) }, "it failed: seats: are 0"},
		"reply": {func(t testing.TB) {
			functiontest.Given(t, take).WhenAsked(ask, body).ThenReplies(booking{ID: "b1", Seats: 2})
		}, ""},
		"reply as text": {func(t testing.TB) {
			functiontest.Given(t, take).WhenAsked(ask, body).ThenReplies(`{"seats":2,"confirmed":false,"booking_id":"b1"}`)
		}, ""},
		"another reply":     {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, body).ThenReplies(booking{}) }, `- "seats": 0 + "seats": 2`},
		"fails":             {func(t testing.TB) { functiontest.Given(t, fails).When(requested{}).ThenFails(errBroken) }, ""},
		"fails otherwise":   {func(t testing.TB) { functiontest.Given(t, fails).When(requested{}).ThenFails(function.ErrDecode) }, `another error than "message is`},
		"fails, no refusal": {func(t testing.TB) { functiontest.Given(t, fails).WhenAsked("fails.now", "").ThenRefused(400, "") }, "but failed: broken"},
		"does not fail": {func(t testing.TB) {
			functiontest.Given(t, confirm).When(requested{}).Then(confirmed{}).ThenFails(errBroken)
		}, "did not fail"},
		"not there": {func(t testing.TB) {
			functiontest.Given(t, forgets).WhenAsked("bookings.confirm", body).ThenRefused(404, "booking_id")
		}, ""},
		"another's": {func(t testing.TB) {
			functiontest.Given(t, forgets, requested{"b2", 2}).Of("b2").WhenAsked("bookings.confirm", body).ThenRefused(404, "booking_id")
		}, ""},
		"not idempotent": {func(t testing.TB) {
			functiontest.Given(t, forgets, requested{"b1", 2}).WhenAsked("bookings.confirm", body).Then(confirmed{2}).Again().ThenNothing()
		}, `forgets, when asked bookings.confirm {"booking_id":"b1","seats":2} again: other events`},
		"no such event":   {func(t testing.TB) { functiontest.Given(t, take).When(requested{}) }, "take has no door for the event requested; it has bookings.request"},
		"no such subject": {func(t testing.TB) { functiontest.Given(t, take).WhenAsked("a.b", "") }, "no door for requests to a.b"},
		"no stream":       {func(t testing.TB) { functiontest.Given(t, fails, requested{}).WhenAsked("fails.now", "") }, "reads no events here"},
		"no function":     {func(t testing.TB) { functiontest.Given(t, function.Function{}) }, "Name does not match"},
		"no JSON":         {func(t testing.TB) { functiontest.Given(t, take).WhenAsked(ask, make(chan int)) }, "encode chan int"},
	} {
		got := tell(t, c.test)
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

// TestLongDiff leaves out what is equal and far from what differs.
func TestLongDiff(t *testing.T) {
	names := function.Function{Name: "names", Doors: []function.Door{
		function.Endpoint("names", func(context.Context, struct{}) ([]int, error) { return []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 0}, nil }),
	}}
	got := tell(t, func(t testing.TB) {
		functiontest.Given(t, names).WhenAsked("names", "").ThenReplies([]int{1, 2, 3, 4, 5, 6, 7, 8, 7, 0})
	})
	if !strings.HasSuffix(got, "... 6, 7, 8, - 7, + 9, 0 ]") {
		t.Error(got)
	}
}

// TestTime has a function that tells the time.
func TestTime(t *testing.T) {
	clock := function.Function{Name: "clock", Doors: []function.Door{
		function.Endpoint("clock", func(ctx context.Context, _ struct{}) (time.Time, error) { return function.Now(ctx), nil }),
		function.On(func(ctx context.Context, _ booking, _ requested) ([]event, error) {
			return []event{confirmed{function.Now(ctx).Year()}}, nil
		}),
	}}
	functiontest.Given(t, clock).WhenAsked("clock", "").ThenReplies(functiontest.Now).When(requested{}).Then(confirmed{2026})
}

// needed counts how often it is opened and closed.
type needed struct {
	settings struct {
		Name string `env:"NEEDED_NAME, default=none"`
		Size int    `env:"NEEDED_SIZE, default=1" min:"1"`
	}
	open int
}

func (n *needed) Config() any                { return &n.settings }
func (n *needed) Open(context.Context) error { n.open++; return nil }
func (n *needed) Close() error               { n.open--; return nil }

func TestOpen(t *testing.T) {
	var n needed
	t.Run("open", func(t *testing.T) {
		functiontest.Open(t, &n, "NEEDED_NAME=a=b")
		if n.open != 1 || n.settings.Name != "a=b" || n.settings.Size != 1 {
			t.Errorf("opened %+v", n)
		}
	})
	if n.open != 0 {
		t.Error("it was not closed")
	}
	if got := tell(t, func(t testing.TB) { functiontest.Open(t, &needed{}, "NEEDED_SIZE=0") }); !strings.Contains(got, "NEEDED_SIZE") {
		t.Errorf("told %q", got)
	}
}

// reminder confirms bookings that nobody confirmed for an hour.
type reminder struct{}

func (reminder) Due(b booking) time.Time {
	if b.Confirmed {
		return time.Time{}
	}
	return functiontest.Now.Add(time.Hour)
}
func (reminder) Waiting(context.Context) iter.Seq2[string, error] { return nil }
func (reminder) Fire(_ context.Context, b booking) ([]event, error) {
	return []event{confirmed{b.Seats}}, nil
}

func TestWhenTimeIs(t *testing.T) {
	remind := function.Function{Name: "remind", Doors: []function.Door{function.Timer(reminder{})}}
	asked, due := requested{"b1", 2}, functiontest.Now.Add(time.Hour)
	functiontest.Given(t, remind, asked).ThenWaits(due).WhenTimeIs(due).Then(confirmed{2}).Again().ThenNothing().
		ThenWaits(time.Time{}).WhenTimeIs(due.Add(time.Hour)).ThenNothing()
	functiontest.Given(t, remind, asked).WhenTimeIs(due.Add(-time.Microsecond)).ThenNothing()
	functiontest.Given(t, remind, asked).Meanwhile(confirmed{2}).WhenTimeIs(due).ThenNothing()
	functiontest.Given(t, remind).Of("nobody").WhenTimeIs(due).ThenNothing()
	if got := tell(t, func(t testing.TB) { functiontest.Given(t, confirm, asked).WhenTimeIs(due) }); !strings.Contains(got, "has no timer") {
		t.Errorf("it says %q", got)
	}
	if got := tell(t, func(t testing.TB) { functiontest.Given(t, remind, asked).ThenWaits(time.Time{}) }); !strings.Contains(got, "waits until") {
		t.Errorf("it says %q", got)
	}
}
