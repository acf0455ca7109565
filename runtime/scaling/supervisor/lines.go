package supervisor

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// lines hands on what a process writes, line by line, so that those of several do
// not mix, and remembers what it said last: of a panic, what that was.
type lines struct {
	to io.Writer

	mu      sync.Mutex
	pending []byte // the line that has not ended
	last    string
	fatal   bool // last is why it ended, and what follows only where
}

const (
	// maxLine bounds a line that is waited for; a longer one is handed on in parts.
	maxLine = 64 << 10
	// maxSaid bounds what is remembered, in bytes.
	maxSaid = 256
)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, p...)
	end := bytes.LastIndexByte(l.pending, '\n') + 1
	if end == 0 && len(l.pending) >= maxLine {
		end = len(l.pending)
	}
	if err := l.hand(end); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end hands on what is left, and answers what was said last.
func (l *lines) end() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.hand(len(l.pending)) // whoever reads it is gone
	return l.last
}

// hand hands on so many bytes.
func (l *lines) hand(n int) error {
	if n == 0 {
		return nil
	}
	for line := range strings.Lines(string(l.pending[:n])) {
		line = strings.TrimSpace(line)
		fatal := strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
		if line == "" || l.fatal && !fatal {
			continue
		}
		l.last, l.fatal = strings.ToValidUTF8(line[:min(len(line), maxSaid)], ""), fatal
	}
	_, err := l.to.Write(l.pending[:n])
	l.pending = append(l.pending[:0], l.pending[n:]...)
	return err
}
