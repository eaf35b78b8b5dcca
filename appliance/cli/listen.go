package cli

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"edgepost/appliance"
	"edgepost/appliance/guard/seal"
)

func listenCommand() *command {
	l := &listening{backoff: firstBackoff}
	c := &command{name: "listen", args: "[FILTER]", short: "print messages as they come, one a line", flags: newFlags()}
	c.long = `
Each line is the topic, a space, and the payload; with -json it is the whole message. With FILTER it shows what is
published from now on to the topics that match. With -device it is that device: it gets everything
that waits in the inbox, and acknowledges each message after its line is written. When the connection is
lost it connects again and goes on behind the last message. It ends on SIGINT with exit code 0.

-open opens what is sealed with the key in FILE, see seal key and device seal; what is not, or does not open, is shown
as it is.`
	c.flags.StringVar(&l.device, "device", "", "listen as the device `ID`, with -token")
	c.flags.IntVar(&l.limit, "n", 0, "end after `N` messages; 0: never")
	c.flags.StringVar(&l.openFile, "open", "", "open sealed payloads with the key in `FILE`")
	c.run = func(ctx context.Context, call *call) error { return l.run(ctx, call) }
	return c
}

const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second // a gateway reboots in less; more would only look broken
)

// listening is one listen command, over all its connections. One goroutine owns it.
type listening struct {
	device string
	filter string
	limit  int

	openFile string
	opener   *opener // nil: nothing is opened

	call    *call
	client  *client
	shown   int    // lines written
	last    string // id of the newest shown message of the filter
	seen    ring
	backoff time.Duration // before the next attempt, doubled by each that got no welcome
}

func (l *listening) run(ctx context.Context, c *call) (err error) {
	switch {
	case l.device == "" && len(c.args) == 0:
		return usage("listen", "listen: give a FILTER, or -device ID -token TOKEN")
	case l.device != "" && len(c.args) > 0:
		return usage("listen", "listen: a device listens to its inbox; leave %q or -device away", clip(c.args[0]))
	case l.device != "" && c.token == "":
		return usage("listen", "listen: -device needs the device's -token")
	case l.limit < 0:
		return usage("listen", "listen: flag -n: %d is out of range", l.limit)
	case l.device == "":
		l.filter = c.args[0]
	}
	l.call = c
	if l.openFile != "" {
		k, err := readSealKey(l.openFile)
		if err != nil {
			return err
		}
		l.opener = &opener{box: seal.NewBox(k), note: c.note}
	}
	if l.client, err = c.client(); err != nil {
		return err
	}
	if l.device != "" {
		l.client.auth = basic(l.device, c.token)
	}
	return l.sessions(ctx)
}

// sessions connects again and again until it is done. Only the very first connection must succeed.
func (l *listening) sessions(ctx context.Context) error {
	for first := true; ; first = false {
		s, err := l.connect(ctx)
		if err == nil {
			err = s.run(ctx)
		}
		if ctx.Err() != nil { // an interrupt is how it is meant to end; what err says is its echo
			err = nil
		}
		again := retryOf(err)
		switch {
		case again == nil:
			return err
		case first && s == nil:
			return again.cause
		case !l.pause(ctx, again):
			return nil
		}
	}
}

// pause waits before the next connection; false when the command ends meanwhile.
func (l *listening) pause(ctx context.Context, why *retry) bool {
	wait := why.after
	if wait == 0 {
		wait = rand.N(l.backoff) + l.backoff/4 // full jitter: a gateway's clients must not come back in step
		l.backoff = min(2*l.backoff, maxBackoff)
	}
	l.call.note("%s; connecting again in %s", why.text, appliance.FormatDuration(wait.Round(100*time.Millisecond)))
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

// show writes one message, unless it was shown before.
func (l *listening) show(doc []byte, m *messageJSON) error {
	if m.ID != "" && l.seen.has(m.ID) {
		return nil
	}
	doc, again := l.opener.open(doc, m)
	if again {
		return nil
	}
	var err error
	if l.call.json {
		err = l.call.printJSON(doc)
	} else {
		err = l.call.print(printable(m.Topic) + " " + m.payload() + "\n")
	}
	if err != nil {
		return err
	}
	if l.shown++; m.ID != "" {
		l.seen.add(m.ID)
		l.last = m.ID
	}
	return nil
}

// done reports whether -n messages were shown.
func (l *listening) done() bool { return l.limit > 0 && l.shown >= l.limit }

// retry is the end of a connection that another one may follow.
type retry struct {
	text  string
	after time.Duration // what the appliance asked for; 0: the backoff
	cause *failure      // of a connection that was not made: the end of the command when it is the first
}

func (r *retry) Error() string { return r.text }

func retryOf(err error) *retry {
	var r *retry
	errors.As(err, &r)
	return r
}

// ring remembers the newest ids: as many as can be on their way twice.
type ring struct {
	ids  map[string]struct{}
	list []string
	next int
}

const ringSize = 4096 // the largest window there is

func (r *ring) has(id string) bool { _, ok := r.ids[id]; return ok }

func (r *ring) add(id string) {
	if r.ids == nil {
		r.ids = map[string]struct{}{}
	}
	if len(r.list) < ringSize {
		r.list = append(r.list, id)
	} else {
		delete(r.ids, r.list[r.next])
		r.list[r.next] = id
		r.next = (r.next + 1) % ringSize
	}
	r.ids[id] = struct{}{}
}
