package deadletter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/function"
)

// Name is the service's.
const Name = "deadletters"

// What the service listens to. A function listens to [ReplaySubject], which is
// for the service alone.
const (
	SubjectList   = Name + ".list"
	SubjectShow   = Name + ".show"
	SubjectEdit   = Name + ".edit"
	SubjectReplay = Name + ".replay"
	SubjectDrop   = Name + ".drop"
)

// ReplaySubject is where one function takes the messages that it is to handle
// again: a [Replay], answered with an [Outcome].
func ReplaySubject(function string) string { return SubjectReplay + "." + function }

// Replay is a message that a function is to handle again.
type Replay struct {
	Event eventstore.Event `json:"event"`
	// Edited says that the event's data is not what is stored.
	Edited bool `json:"edited"`
}

// Outcome is what a function made of a [Replay].
type Outcome struct {
	// Error is why it failed; empty if it was handled.
	Error string `json:"error"`
}

// ListRequest asks for dead letters, those buried first first.
type ListRequest struct {
	Function string `json:"function"`
	Stream   string `json:"stream"`
	Reason   string `json:"reason"`
	// Status is "unresolved" if left out.
	Status Status `json:"status"`
	// Since leaves out what was buried before.
	Since time.Time `json:"since,omitzero"`
	// Limit is 1 to 500, 50 if left out.
	Limit *int `json:"limit,omitempty"`
	// Cursor is what the page before answered.
	Cursor string `json:"cursor"`
}

// Listed answers a [ListRequest].
type Listed struct {
	Letters []Summary `json:"letters"`
	// Cursor asks for more; empty at the end. A page of resolved letters may be
	// short, even empty, and not the last.
	Cursor string `json:"cursor"`
	// Unresolved counts the unresolved letters of each function, whatever was asked for.
	Unresolved map[string]int `json:"unresolved"`
	// NotListed are unresolved letters, the newest, that are only counted until
	// others are resolved.
	NotListed int `json:"not_listed"`
}

// ShowRequest asks for one dead letter. ID may be the first 8 characters or more
// of an unresolved one's; so in all requests.
type ShowRequest struct {
	ID string `json:"id"`
}

// EditRequest changes what a replay hands over.
type EditRequest struct {
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
	// Version, if not 0, refuses when the letter is at another.
	Version uint64 `json:"version"`
	By      string `json:"by"`
	Reason  string `json:"reason"`
}

// ReplayRequest has one letter handled again.
type ReplayRequest struct {
	ID string `json:"id"`
	By string `json:"by"`
}

// DropRequest closes a letter that nothing is to be done about.
type DropRequest struct {
	ID     string `json:"id"`
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// The bounds of the requests.
const (
	defaultLimit = 50
	maxLimit     = 500
	maxBy        = 200
	maxReason    = 1000
	leastPrefix  = 8
	wholeID      = 36 // a UUID's characters
)

// Check implements the request's rules.
func (r *ListRequest) Check() error {
	if r.Status == "" {
		r.Status = StatusUnresolved
	}
	all := []Status{StatusUnresolved, StatusBuried, StatusEdited, StatusFailed, StatusReplayed, StatusDropped}
	if !slices.Contains(all, r.Status) {
		return function.Invalid("status", "is %.40q; allowed are %v", string(r.Status), all)
	}
	reasons := []string{"", ReasonRejected, ReasonDecode, ReasonAttempts, ReasonCrashLoop, ReasonCrowded}
	if !slices.Contains(reasons, r.Reason) {
		return function.Invalid("reason", "is %.40q; allowed are %v", r.Reason, reasons[1:])
	}
	if r.Limit == nil {
		r.Limit = new(defaultLimit)
	}
	if n := *r.Limit; n < 1 || n > maxLimit {
		return function.Invalid("limit", "is %d; allowed are 1 to %d", n, maxLimit)
	}
	_, err := position(r.Cursor)
	return err
}

// Check implements the request's rules.
func (r *EditRequest) Check() error {
	if len(r.Data) == 0 {
		return function.Invalid("data", "is missing; it is the message's body, as JSON")
	}
	return checkWho(r.By, r.Reason)
}

// Check implements the request's rules.
func (r *ReplayRequest) Check() error { return checkWho(r.By, "") }

// Check implements the request's rules.
func (r *DropRequest) Check() error {
	if r.Reason == "" {
		return function.Invalid("reason", "is missing; say why nothing is to be done about it")
	}
	return checkWho(r.By, r.Reason)
}

func checkWho(by, reason string) error {
	for _, field := range []struct {
		name, value string
		most        int
	}{{"by", by, maxBy}, {"reason", reason, maxReason}} {
		if n := utf8.RuneCountInString(field.value); n > field.most {
			return function.Invalid(field.name, "has %d characters; allowed are %d", n, field.most)
		}
	}
	return nil
}

// position reads a cursor: where the letter before was buried, or resolved.
func position(cursor string) (uint64, error) {
	if cursor == "" {
		return 0, nil
	}
	at, err := strconv.ParseUint(cursor, 10, 64)
	if err != nil || at >= eventstore.MaxPosition {
		return 0, function.Invalid("cursor", "is %.40q, which no page answered", cursor)
	}
	return at, nil
}

func cursor(at uint64) string {
	if at == 0 {
		return ""
	}
	return fmt.Sprint(at)
}
