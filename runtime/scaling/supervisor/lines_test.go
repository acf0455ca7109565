package supervisor

import (
	"strings"
	"testing"
)

func TestLinesRemembersTheLast(t *testing.T) {
	long := strings.Repeat("x", maxLine+1)
	for name, c := range map[string]struct {
		writes []string
		want   string
	}{
		"nothing":        {nil, ""},
		"a line":         {[]string{"one\n"}, "one"},
		"the last":       {[]string{"one\ntwo\n\n  \n"}, "two"},
		"in parts":       {[]string{"on", "e\ntw", "o\n"}, "two"},
		"without an end": {[]string{"one\ntwo"}, "two"},
		"a panic":        {[]string{"one\npanic: it broke\n\ngoroutine 1 [running]:\nmain.main()\n", "\tmain.go:7\nexit status 2\n"}, "panic: it broke"},
		"the last panic": {[]string{"panic: it broke\n\tpanic: and more\ngoroutine 1"}, "panic: and more"},
		"a fatal error":  {[]string{"fatal error: concurrent map writes\ngoroutine 7"}, "fatal error: concurrent map writes"},
		"a long line":    {[]string{long, "\n"}, long[:maxSaid]},
		"no text":        {[]string{"a\xffb\n"}, "ab"},
	} {
		var to strings.Builder
		l := &lines{to: &to}
		for _, w := range c.writes {
			if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
				t.Fatalf("%s: %d, %v", name, n, err)
			}
		}
		if got := l.end(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if to.String() != strings.Join(c.writes, "") {
			t.Errorf("%s: handed on %q", name, to.String())
		}
	}
}

// TestLinesAreWhole: what is handed on at once ends a line.
func TestLinesAreWhole(t *testing.T) {
	var to writes
	l := &lines{to: &to}
	for _, w := range []string{"a", "b\nc", "\nd"} {
		if _, err := l.Write([]byte(w)); err != nil {
			t.Fatal(err)
		}
	}
	l.end()
	if got := strings.Join(to, "|"); got != "ab\n|c\n|d" {
		t.Errorf("%q", got)
	}
}

type writes []string

func (w *writes) Write(p []byte) (int, error) { *w = append(*w, string(p)); return len(p), nil }
