package verify

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// rebuilds makes the view anew again and again until ctx ends, and kills
// every other rebuild somewhere: the next one goes on with it.
func (f *fleet) rebuilds(ctx context.Context, random *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		sleep(ctx, time.Duration(random.Int64N(int64(2*time.Second))))
		run, kill := ctx, context.CancelFunc(func() {})
		if n%2 == 0 {
			run, kill = context.WithTimeout(ctx, time.Duration(random.Int64N(int64(time.Second))))
		}
		err := f.rebuild(run)
		killed := run.Err() != nil
		kill()
		switch {
		case ctx.Err() != nil:
		case killed:
			f.count("kill -9 of a rebuild")
		case err != nil:
			f.count("without effect: rebuild of the view") // what it needs was away
		default:
			f.count("rebuild of the view")
		}
	}
}

// rebuild runs the command; it is killed when ctx ends.
func (f *fleet) rebuild(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(f.dir, "rebuild.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	f.mu.Lock()
	f.upgraded[ordersDatabase] = true
	f.mu.Unlock()
	cmd := exec.CommandContext(ctx, f.program, "rebuild", "orderview") //nolint:gosec // our own program
	cmd.Env, cmd.Stdout, cmd.Stderr = f.env, log, log
	return cmd.Run()
}
