package wal

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// breakDown refuses appends from now on, and sets the time of the next try.
func (c *committer) breakDown(err error) {
	l := c.l
	kind := ErrFailed
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		kind = ErrFull
		if l.opt.Collect != nil { // else it is for who needs it: urgent appends and sides
			l.releaseReserve()
		}
	}
	if c.broken == nil {
		l.opt.Log.Error("log refuses appends", "why", kind, "err", err)
	}
	c.broken = fmt.Errorf("%w: %w", kind, err)
	l.mu.Lock()
	l.health = c.broken
	l.mu.Unlock()
	c.backoff = min(max(2*c.backoff, minBackoff), maxBackoff)
	c.retry.Reset(c.backoff)
}

// recover tries whether the disk works again.
func (c *committer) recover() {
	if c.broken == nil {
		return
	}
	l := c.l
	c.stuck = false
	err := l.holdReserve(errors.Is(c.broken, ErrFull))
	if err == nil && (c.cur == nil || c.cur.size >= l.opt.Generation) {
		err = c.begin()
	}
	if err != nil {
		c.breakDown(err)
		c.commit(nil) // the riders, if there is space for them
		return
	}
	l.opt.Log.Info("log accepts appends again", "was", c.broken)
	c.broken, c.backoff = nil, 0
	l.mu.Lock()
	l.health = nil
	l.mu.Unlock()
	l.Flush() // riders may wait
}

// holdReserve makes sure that the reserve file exists, and where space was short that there is some beside it. Space is
// checked first, so that a full disk is not written to again and again.
func (l *Log) holdReserve(short bool) error {
	l.mu.RLock()
	held := l.reserved
	l.mu.RUnlock()
	if held && !short {
		return nil
	}
	need := l.opt.Generation
	if !held {
		need += max(l.opt.Reserve, 0)
	}
	free, _, err := l.disk.Free(l.dir)
	if err != nil {
		return fmt.Errorf("look for space: %w", err)
	}
	if free < need {
		return fmt.Errorf("%d bytes are free, %d are needed: %w", free, need, unix.ENOSPC)
	}
	if held || l.opt.Reserve < 0 {
		return nil
	}
	path := filepath.Join(l.dir, reserve)
	if err := l.disk.Fill(path, l.opt.Reserve); err != nil {
		_ = l.disk.Remove(path)
		return fmt.Errorf("write reserve file: %w", err)
	}
	l.mu.Lock()
	l.reserved = true
	l.mu.Unlock()
	return nil
}

// releaseReserve gives the space of the reserve file to riders, urgent appends and sides. It reports whether there was one.
func (l *Log) releaseReserve() bool {
	l.mu.Lock()
	held := l.reserved
	l.reserved = false
	l.mu.Unlock()
	if held {
		if err := l.disk.Remove(filepath.Join(l.dir, reserve)); err != nil {
			l.opt.Log.Warn("release reserve file", "err", err)
		}
	}
	return held
}
