package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// logged is what was logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// TestAHandlerThatNeverReturns is told of, and does not keep a stop from its end.
func TestAHandlerThatNeverReturns(t *testing.T) {
	hangs := map[string]func(release chan struct{}) function.Door{
		"event": func(release chan struct{}) function.Door {
			return function.On(func(context.Context, counter, opened) ([]event, error) {
				<-release
				return nil, nil
			})
		},
		"batch": func(release chan struct{}) function.Door {
			return function.Project("COUNTERS", func(context.Context, function.Log, []function.Message) error {
				<-release
				return nil
			})
		},
	}
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.durable("hung") // its lease is short, and with it how often it is looked at
			release := make(chan struct{})
			f := function.Function{Name: "hung", Doors: []function.Door{hang(release)}}
			log := &logged{}
			f.Deadline = 50 * time.Millisecond
			h, err := host.Start(f, host.Options{Conn: w.nc, Store: w.store, Logger: slog.New(slog.NewTextHandler(log, nil)), PullExpiry: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			w.append(1)
			w.eventually("say so", func() error {
				if stats := w.request("$SRV.STATS.hung", ""); !containsText(stats.Data, "past its deadline (position 1)") {
					return fmt.Errorf("stats say %s", stats.Data)
				}
				if log.count("handler does not return") != 1 {
					return errors.New("the log does not say it once")
				}
				return nil
			})
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := h.Stop(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "does not return") {
				t.Errorf("stopped: %v", err)
			}
			close(release)
		})
	}
}
