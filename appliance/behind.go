package appliance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// catchUpEvery is how soon subscriptions follow once the storage takes writes again.
const catchUpEvery = 200 * time.Millisecond

// following says whether the subscriptions are what the register wants. The register changes first.
// When the storage takes no writes then, the subscriptions stay behind, and catch up by themselves. Until they
// have, what is addressed to devices and groups is refused: it might reach nobody.
type following struct {
	changes sync.RWMutex // held for reading while the register and a subscription change, for writing to compare all
	behind  atomic.Bool
	history []courier.Spec
	gone    sync.Map // names of inboxes whose device was removed since they could not follow
}

// later is lag for what only takes away: the register says so already and nobody gets in, so that a subscription
// that follows later is no reason to tell the caller that it failed.
func (f *following) later(err error) error {
	if f.lag(err) != nil && storageRefuses(err) {
		return nil
	}
	return err
}

// lag notes that a subscription could not follow, or that nobody waited for it. It returns the error
// as it is.
func (f *following) lag(err error) error {
	if storageRefuses(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		f.behind.Store(true)
	}
	return err
}

// storageRefuses reports whether the error is that the log takes no writes at the moment.
func storageRefuses(err error) bool {
	p, ok := errors.AsType[*message.Problem](err)
	return ok && (p.Code == message.CodeStorageFull || p.Code == message.CodeStorageFailed)
}

// beginFollowing compares the subscriptions with the register at a start. A full or failing disk is no
// reason not to start: what waits for the devices can be delivered.
func (a *Appliance) beginFollowing(ctx context.Context, history []courier.Spec) error {
	k := &a.core
	k.history = history
	if err := k.lag(k.reconcile(ctx)); err != nil {
		if !k.behind.Load() {
			return err
		}
		a.o.Log.Warn("some subscriptions are not yet what the register says; they will be when there is space", "error", err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.catchUp(run) }()
	a.onStop("subscriptions", func(context.Context) error { cancel(); <-done; return nil })
	return nil
}

// removeGone ends the inboxes of removed devices. Comparing would do it too, but not with a damaged register.
func (k *core) removeGone(ctx context.Context) (err error) {
	k.gone.Range(func(key, _ any) bool {
		name, _ := key.(string)
		if slices.Contains(k.c.Names(courier.Inbox), name) {
			err = k.c.Remove(ctx, name)
		}
		if err == nil {
			k.gone.Delete(key)
		}
		return err == nil
	})
	return err
}

// catchUp runs until ctx is done.
func (a *Appliance) catchUp(ctx context.Context) {
	tick := time.NewTicker(catchUpEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k := &a.core
		if !k.behind.Load() || k.Health() != nil {
			continue
		}
		k.changes.Lock()
		err := k.reconcile(ctx)
		if err == nil {
			k.behind.Store(false)
		}
		k.changes.Unlock()
		if err == nil {
			a.o.Log.Info("the subscriptions are what the register says")
		}
	}
}
