package app

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestSameWarningsAreToldSparingly(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(Settings{LogLevel: "info", LogFormat: "text"}, &out)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	say := func(log *slog.Logger, level slog.Level, message string, n int) int {
		t.Helper()
		out.Reset()
		for range n {
			r := slog.NewRecord(at, level, message, 0)
			if err := log.Handler().Handle(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Count(out.String(), "\n")
	}
	for _, c := range []struct {
		log     *slog.Logger
		level   slog.Level
		message string
		later   time.Duration
		want    int
		says    string
	}{
		{log, slog.LevelWarn, "away", 0, sameWarnings, ""},
		{log, slog.LevelWarn, "away", time.Second, 0, ""},
		{log, slog.LevelWarn, "another", 0, sameWarnings, ""},
		{log.With("function", "payment"), slog.LevelWarn, "away", 0, sameWarnings, "function=payment"},
		{log.With("function", "review"), slog.LevelWarn, "away", 0, sameWarnings, "function=review"},
		{log, slog.LevelError, "buried", 0, 100, ""},
		{log, slog.LevelWarn, "away", warningsIn, sameWarnings, "left_out=195"},
	} {
		at = at.Add(c.later)
		if got := say(c.log, c.level, c.message, 100); got != c.want || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s after %v: told %d times, want %d: %.300s", c.message, c.later, got, c.want, out.String())
		}
	}
}
