package config_test

import (
	"errors"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/waybill-go/waybill/runtime/config"
)

type settings struct {
	Limit   int           `env:"RATE_LIMIT, default=100" min:"1" max:"10000" help:"requests per second"`
	Timeout time.Duration `env:"RATE_TIMEOUT, default=2s" min:"1ms" max:"1m" help:"how long one may wait"`
	Path    string        `env:"RATE_PATH, default=$DATA_DIR/rate.db" help:"where it is kept"`
	Level   string        `env:"RATE_LEVEL, default=info" oneof:"debug,info" help:"how much is told"`
	On      bool          `env:"RATE_ON" help:"whether"`
}

func lookup(m map[string]string) config.Lookup {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		want settings
		err  string
	}{
		{"defaults", map[string]string{"DATA_DIR": "/d"}, settings{Limit: 100, Timeout: 2 * time.Second, Path: "/d/rate.db", Level: "info"}, ""},
		{
			"given", map[string]string{"RATE_LIMIT": "7", "RATE_TIMEOUT": "1m", "RATE_PATH": "x", "RATE_LEVEL": "debug", "RATE_ON": "true"},
			settings{Limit: 7, Timeout: time.Minute, Path: "x", Level: "debug", On: true}, "",
		},
		{"set to nothing", map[string]string{"RATE_LIMIT": "", "RATE_PATH": "x"}, settings{Limit: 100, Timeout: 2 * time.Second, Path: "x", Level: "info"}, ""},
		{"no number", map[string]string{"RATE_LIMIT": "ten"}, settings{}, `RATE_LIMIT="ten": is no whole number`},
		{"too small", map[string]string{"RATE_LIMIT": "0"}, settings{}, `RATE_LIMIT="0": is below the least, 1`},
		{"too large", map[string]string{"RATE_LIMIT": "10001"}, settings{}, `RATE_LIMIT="10001": is above the most, 10000`},
		{"no duration", map[string]string{"RATE_TIMEOUT": "2"}, settings{}, `RATE_TIMEOUT="2": is no duration, like 500ms, 2s or 1m30s`},
		{"too long", map[string]string{"RATE_TIMEOUT": "1h"}, settings{}, `RATE_TIMEOUT="1h0m0s": is above the most, 1m`},
		{"no such word", map[string]string{"RATE_LEVEL": "loud"}, settings{}, `RATE_LEVEL="loud": is none of debug,info`},
		{"no bool", map[string]string{"RATE_ON": "perhaps"}, settings{}, `RATE_ON="perhaps": is neither true nor false`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got settings
			err := config.Load(t.Context(), lookup(c.env), &got)
			if c.err == "" {
				if err != nil || got != c.want {
					t.Fatalf("got %+v, %v; want %+v", got, err, c.want)
				}
				return
			}
			var bad *config.Error
			if !errors.As(err, &bad) || err.Error() != c.err {
				t.Fatalf("got error %v, want %s", err, c.err)
			}
		})
	}
}

func TestFlagsComeBeforeTheEnvironment(t *testing.T) {
	var s settings
	flags, given := config.Flags(config.Variables(&s, &settings{}))
	parser, err := kong.New(&struct{}{}, kong.Embed(flags))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--rate-limit=3", "--rate-path=p"}); err != nil {
		t.Fatal(err)
	}
	env := lookup(map[string]string{"RATE_LIMIT": "9", "RATE_TIMEOUT": "5s"})
	if err := config.Load(t.Context(), config.First(given, env), &s); err != nil {
		t.Fatal(err)
	}
	want := settings{Limit: 3, Timeout: 5 * time.Second, Path: "p", Level: "info"}
	if s != want {
		t.Fatalf("got %+v, want %+v", s, want)
	}
}
