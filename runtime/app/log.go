package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/waybill-go/waybill/runtime/telemetry"
)

// A warning that comes again and again is told so often in a while, and then how
// many were left out: an outage must not fill the disk.
const (
	sameWarnings = 5
	warningsIn   = 10 * time.Second
	maxWarnings  = 1000 // kinds that are remembered
)

func newLogger(s Settings, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo // the setting was checked
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if s.LogFormat == "json" {
		handler = slog.NewJSONHandler(w, options)
	}
	return slog.New(sparing{telemetry.Logs(handler), "", &warnings{told: map[string]*window{}}})
}

// sparing is a handler that leaves out warnings that say the same. Messages are
// constant, so the message, with who says it, is what counts.
type sparing struct {
	slog.Handler
	who      string
	warnings *warnings
}

// Handle implements slog.Handler.
func (h sparing) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		leftOut, tell := h.warnings.tell(h.who+r.Message, r.Time)
		if !tell {
			return nil
		}
		if leftOut > 0 {
			r.AddAttrs(slog.Int("left_out", leftOut))
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{h.Handler.WithAttrs(attrs), h.who + fmt.Sprint(attrs), h.warnings}
}

// WithGroup implements slog.Handler.
func (h sparing) WithGroup(name string) slog.Handler {
	return sparing{h.Handler.WithGroup(name), h.who + name, h.warnings}
}

type warnings struct {
	mu   sync.Mutex
	told map[string]*window
}

// window counts a warning.
type window struct {
	began time.Time
	n     int
}

// tell tells whether to tell a warning, and how many were left out before it.
func (w *warnings) tell(what string, at time.Time) (leftOut int, tell bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, ok := w.told[what]
	if !ok {
		if len(w.told) >= maxWarnings {
			clear(w.told)
		}
		now = &window{began: at}
		w.told[what] = now
	}
	if at.Sub(now.began) >= warningsIn {
		leftOut = max(0, now.n-sameWarnings)
		*now = window{began: at}
	}
	now.n++
	return leftOut, now.n <= sameWarnings
}
