package appliance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/system/job"
)

// DeadLetters lists what subscriptions gave up.
func (k *core) DeadLetters(_ context.Context, g *auth.Grant, after uint64, limit int) ([]message.DeadLetter, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.c.DeadLetters(after, limit), nil
}

// DeadLetter shows one.
func (k *core) DeadLetter(_ context.Context, g *auth.Grant, entry uint64) (message.DeadLetter, error) {
	if err := admin(g); err != nil {
		return message.DeadLetter{}, err
	}
	return k.c.DeadLetter(entry)
}

// Requeue has one delivered after all, to the same subscription; one to a device or group that did not exist,
// once that does.
func (k *core) Requeue(ctx context.Context, g *auth.Grant, entry uint64) (as message.StoredAs, err error) {
	defer func() { k.audited(ctx, g, "dead.requeue", strconv.FormatUint(entry, 10), err) }()
	if err := admin(g); err != nil {
		return message.StoredAs{}, err
	}
	d, err := k.c.DeadLetter(entry)
	if err != nil {
		return message.StoredAs{}, err
	}
	if d.Subscription == courier.Unaddressed && d.Message != nil {
		if err := k.addressee(d.Message); err != nil {
			return message.StoredAs{}, err
		}
	}
	return k.c.Requeue(ctx, entry)
}

// requeuedFrom is the property that names the message which an edited dead letter was.
const requeuedFrom = "requeued-from"

// RequeueEdited has one delivered in another form, as a message of its own that says what it was: to the same subscription, or,
// when the topic changed, to whoever matches the new one and as far as the grant may publish there.
func (k *core) RequeueEdited(ctx context.Context, g *auth.Grant, entry uint64, edit courier.Edit) (as message.StoredAs, err error) {
	defer func() { k.audited(ctx, g, "dead.edit", strconv.FormatUint(entry, 10), err) }()
	if err := admin(g); err != nil {
		return message.StoredAs{}, err
	}
	d, err := k.c.DeadLetter(entry)
	if err != nil {
		return message.StoredAs{}, err
	}
	if d.Message == nil {
		return message.StoredAs{}, message.Problemf(message.CodeNotFound, "the message of dead letter %d is no longer readable", entry)
	}
	m := *d.Message
	from := m.From
	anew := edit.Apply(&m)
	m.Properties = append(slices.Clone(m.Properties), message.Property{Key: requeuedFrom, Value: d.Message.ID.String()})
	if err := m.Check(); err != nil {
		return message.StoredAs{}, err
	}
	if anew {
		if err := k.admit(g, &m); err != nil {
			return message.StoredAs{}, err
		}
	}
	m.From = from
	return k.c.Replace(ctx, entry, &m, anew)
}

// Discard removes one for good.
func (k *core) Discard(ctx context.Context, g *auth.Grant, entry uint64) (err error) {
	defer func() { k.audited(ctx, g, "dead.discard", strconv.FormatUint(entry, 10), err) }()
	if err := admin(g); err != nil {
		return err
	}
	return k.ob.Discard(ctx, entry)
}

// Causes groups them by reason.
func (k *core) Causes(g *auth.Grant) ([]message.DeadCause, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.ob.DeadCauses(), nil
}

// RequeueAll begins to have all delivered that have the reason, "" any, so many a second. Those that come meanwhile stay.
func (k *core) RequeueAll(ctx context.Context, g *auth.Grant, reason string, rate float64) (j job.Job, err error) {
	defer func() { k.audited(ctx, g, "dead.requeue-all", reason, err) }()
	if err := admin(g); err != nil {
		return job.Job{}, err
	}
	entries := k.ob.DeadEntries(reason, 0)
	return k.jobs.Start("requeue dead letters", int64(len(entries)), func(ctx context.Context, p job.Progress) error {
		tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
		defer tick.Stop()
		for _, entry := range entries {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			_, err := k.c.Requeue(ctx, entry)
			if storageRefuses(err) || errors.Is(err, context.Canceled) {
				return err
			}
			if err != nil {
				err = fmt.Errorf("dead letter %d: %w", entry, err)
			}
			p.Step(err)
		}
		return nil
	})
}

// Jobs lists the jobs that run or ran lately.
func (k *core) Jobs(g *auth.Grant) ([]job.Job, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.jobs.List(), nil
}

// Job shows one.
func (k *core) Job(g *auth.Grant, id string) (job.Job, error) {
	if err := admin(g); err != nil {
		return job.Job{}, err
	}
	return k.jobs.Get(id)
}

// StopJob ends one; what it has done stays done.
func (k *core) StopJob(ctx context.Context, g *auth.Grant, id string) (j job.Job, err error) {
	defer func() { k.audited(ctx, g, "job.stop", id, err) }()
	if err := admin(g); err != nil {
		return job.Job{}, err
	}
	return k.jobs.Stop(id)
}
