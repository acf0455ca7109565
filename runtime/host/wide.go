package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/discovery"
)

// A release that gave the function another event door widened the durable, and
// this one, which is older, has one door and finds it wide: somebody went back.
// It takes the durable as it is, and acknowledges unseen what it has no door for,
// as a function of several doors does; but never beside a replica of the newer
// release, whose events those are. Nothing is narrowed: the settings stay those of
// the newer release, which goes on from where the durable stands if it comes again.

// goneAfter is how many looks at the durable without a replica of the newer release,
// by one that saw some, mean that those are gone, and are not only started again.
const goneAfter = 3

// errWider keeps it away as long as those run.
var errWider = errors.New("a release with more event doors has widened the durable, and runs")

// isWide tells whether the durable brings more than this function handles.
func (c *consumer) isWide(has jetstream.Consumer) bool {
	filter := has.CachedInfo().Config.FilterSubject
	return filter != c.subject && filter == all(c.stream)
}

// mayTake tells whether what a wide durable brings beside this function's own may
// be acknowledged unseen: nobody runs who has a door for it. That includes somebody
// who does not answer, so this process must hear itself at least.
func (c *consumer) mayTake(ctx context.Context) error {
	running, err := discovery.Running(ctx, c.h.opts.Conn, c.h.f.Name)
	if err != nil {
		return fmt.Errorf("look for a release that widened durable %s of %s: %w", c.h.f.Name, c.stream, err)
	}
	self := false
	for _, r := range running {
		self = self || r.ID == c.h.service.Info().ID
		for _, e := range r.Endpoints {
			if e.Metadata[discovery.MetadataDurable] == c.h.f.Name && e.Metadata[discovery.MetadataStream] == c.stream && e.Subject != c.subject {
				c.wider = time.Now()
				return fmt.Errorf("%w: %s %s handles %s; events are taken here %v after the last of those was seen", errWider, c.h.f.Name, r.Version, e.Subject, c.goneFor())
			}
		}
	}
	switch left := c.goneFor() - time.Since(c.wider); {
	case !self:
		return fmt.Errorf("durable %s of %s is wider than this release, and who else runs can't be asked: let this process publish to $SRV.INFO.%s", c.h.f.Name, c.stream, c.h.f.Name)
	case left > 0:
		return fmt.Errorf("%w until now: events are taken here if it does not come again for %v", errWider, c.goneFor())
	}
	return nil
}

func (c *consumer) goneFor() time.Duration { return goneAfter * lookAgain * c.h.opts.PullExpiry }
