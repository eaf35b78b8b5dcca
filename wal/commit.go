package wal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// committer is the one goroutine that writes main generations. Everything in it belongs to that goroutine.
type committer struct {
	l    *Log
	next uint64 // number of the next record
	skip uint64 // numbers skipped by this start, declared by its first generation
	pred uint64 // id of the main generation before cur
	cur  *current
	reqs []request
	buf  []byte

	riders     []Record // collected and not yet durable
	riderBytes int64
	expect     int   // waiters the next frame may hope for
	recent     int64 // moving average of frame sizes: decides about zeros ahead
	inPlace    bool  // the file system overwrites in place

	broken  error // why appends are refused now; nil if they are not
	stuck   bool  // broken, and riders could not be written either; recover tries again
	backoff time.Duration
	retry   *time.Timer

	unmarked bool        // the last frame of cur holds records
	quiet    *time.Timer // runs while unmarked
}

// current is the generation being written.
type current struct {
	*generation
	seg      segment
	zeroed   int64 // zeros are written up to here
	reserved bool  // blocks were asked for up to its end
}

// Start begins this run's first generation, the committer, and the reserve file. A full or failing disk is no error here: appends are refused until it recovers (Health says why).
func (l *Log) Start() error {
	l.mu.Lock()
	if l.started || l.closed {
		l.mu.Unlock()
		return errors.New("start log: it was started or closed before")
	}
	l.started = true
	l.mu.Unlock()
	c := &l.com
	c.recent, c.expect = 1, 1
	c.retry = time.NewTimer(time.Hour)
	c.retry.Stop()
	c.quiet = time.NewTimer(time.Hour)
	c.quiet.Stop()
	if _, inPlace, err := l.disk.Free(l.dir); err == nil {
		c.inPlace = inPlace
	}
	err := c.begin()
	if err == nil {
		err = l.holdReserve(false)
	}
	if err != nil {
		c.breakDown(err)
	}
	go c.run()
	return nil
}

// Close commits what is queued, seals the generation and lets go of the directory. Appends that arrive later, or cannot
// be stored now, get ErrClosed or the error that stands in the way. The second call returns ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	started, closed := l.started, l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	l.queue.close()
	var err error
	if started {
		<-l.finished
		if c := &l.com; c.cur != nil {
			l.retiring.Add(1)
			err = l.retire(c.cur, true)
			c.cur = nil
		}
		if len(l.com.riders) > 0 {
			err = errors.Join(err, fmt.Errorf("%d riders were not stored: %w", len(l.com.riders), l.com.broken))
		}
		l.retiring.Wait()
	}
	l.lock.release()
	return err
}

// run is the committer's loop.
func (c *committer) run() {
	defer close(c.l.finished)
	defer c.retry.Stop()
	defer c.quiet.Stop()
	q := &c.l.queue
	for {
		if c.l.spent.Swap(false) && c.broken == nil {
			c.breakDown(fmt.Errorf("cleaning uses the reserve file: %w", unix.ENOSPC))
		}
		work, closed := q.state()
		if !work && !closed {
			select {
			case <-q.signal:
			case <-c.retry.C:
				c.recover()
			case <-c.quiet.C:
				c.mark()
			}
			continue
		}
		select {
		case <-c.retry.C: // also under a stream of appends that are refused
			c.recover()
		default:
		}
		if work {
			c.linger()
			c.reqs = q.take(c.reqs)
			c.commit(c.reqs)
			clear(c.reqs)
			continue
		}
		c.recover() // a last try for the riders
		for c.commit(nil); len(c.riders) > 0 && c.broken == nil; {
			c.commit(nil)
		}
		return
	}
}

// When a commit waits for company.
const (
	lingerFrom   = 4  // appends that the last commits let expect; for fewer the wait costs more than an fsync saves
	lingerWorth  = 8  // more that came in one Linger, for another one
	lingerCrowd  = 32 // more that are missing, for another one though nobody came
	lingerRounds = 8  // Lingers at most
)

// linger waits until as many appends are queued as the last commits let expect: for Linger, and longer only while it
// goes on to bring more, or while a crowd is missing. One publisher, or a few, never wait; many that publish again as
// soon as they are answered are in one frame, also where the processor needs longer than the disk to take what all of
// them send. There it is quiet at first: all of them are being answered, and none sends. What did not fit into the
// frame before would go alone then, for as dear an fsync.
func (c *committer) linger() {
	q := &c.l.queue
	if c.expect < lingerFrom || c.l.opt.Linger < 0 || c.broken != nil {
		return
	}
	defer q.waiting(1)
	timer := time.NewTimer(c.l.opt.Linger)
	defer timer.Stop()
	first, _ := q.waiting(c.expect)
	before := first
	for round := 1; ; {
		n, hurry := q.waiting(c.expect)
		if hurry || n >= c.expect {
			return
		}
		select {
		case <-q.signal:
		case <-timer.C:
			n, _ = q.waiting(c.expect)
			quiet := n-before < lingerWorth && c.expect-n < lingerCrowd
			if round++; round > lingerRounds || quiet {
				if n == first {
					c.expect /= 2 // they are gone
				}
				return
			}
			before = n
			timer.Reset(c.l.opt.Linger)
		}
	}
}

// commit writes one frame of reqs and what Collect adds, and answers.
func (c *committer) commit(reqs []request) {
	reqs = c.answerRefused(reqs)
	if c.broken != nil {
		reqs = c.refuse(reqs, errors.Is(c.broken, ErrFull))
		if len(reqs) == 0 && (c.stuck || !errors.Is(c.broken, ErrFull)) {
			return // riders wait for recover
		}
		if len(reqs) > 0 {
			c.l.releaseReserve() // if nobody needed it yet
		}
	}
	c.collect()
	if len(reqs) == 0 && len(c.riders) == 0 {
		return
	}
	batch, riders := c.batch(reqs)
	if err := c.write(&batch); err != nil {
		c.stuck = c.broken != nil
		c.breakDown(err)
		reqs = c.refuse(reqs, !c.stuck && errors.Is(c.broken, ErrFull))
		if len(reqs) > 0 {
			c.commit(reqs) // once: in what the reserve file gave back
		} else if riders > 0 && !c.stuck {
			c.l.Flush() // it is for the riders too
		}
		return
	}
	c.riders = slices.Delete(c.riders, 0, riders)
	c.riderBytes = rawSize(c.riders)
	if len(c.riders) > 0 {
		c.l.Flush()
	}
	queued, _ := c.l.queue.waiting(1) // before those who are answered come again
	if f := c.l.opt.Committed; f != nil {
		f(batch)
	}
	first := batch.First
	for i := range reqs {
		reqs[i].done(first, nil)
		first += uint64(len(reqs[i].recs))
	}
	c.expect = max(len(reqs)+queued, c.expect*7/8) // some may only be late
}

// answerRefused answers requests that carry their error already, or nothing, and returns the others.
func (c *committer) answerRefused(reqs []request) []request {
	return slices.DeleteFunc(reqs, func(r request) bool {
		switch {
		case r.err != nil:
			r.done(0, r.err)
		case len(r.recs) == 0:
			r.done(c.l.Head(), nil)
		default:
			return false
		}
		return true
	})
}

// refuse answers requests with why appends are refused, and returns the others: the urgent ones, if they may go on.
func (c *committer) refuse(reqs []request, urgent bool) []request {
	return slices.DeleteFunc(reqs, func(r request) bool {
		if urgent && r.urgent {
			return false
		}
		r.done(0, c.broken)
		return true
	})
}

// collect asks for riders, unless enough of them wait already.
func (c *committer) collect() {
	if c.l.opt.Collect == nil || c.riderBytes >= frameTarget {
		return
	}
	c.l.opt.Collect(func(r Record) {
		if int64(len(r.Data))+4 > MaxAppend {
			c.l.opt.Log.Error("rider refused", "bytes", len(r.Data), "most", MaxAppend)
			return
		}
		c.riders = append(c.riders, r)
		c.riderBytes += int64(len(r.Data)) + 4
	})
}

// batch lays out the next frame: the requests, then as many riders as fit (at least one if they are alone).
func (c *committer) batch(reqs []request) (b Batch, riders int) {
	n := 0
	for i := range reqs {
		n += len(reqs[i].recs)
	}
	b.Records = make([]Record, 0, n+len(c.riders))
	var size int64
	for i := range reqs {
		b.Records = append(b.Records, reqs[i].recs...)
		size += reqs[i].size
	}
	for _, r := range c.riders {
		size += int64(len(r.Data)) + 4
		if len(b.Records) > 0 && size > max(frameTarget, maxPayload-MaxAppend/4) {
			break
		}
		b.Records = append(b.Records, r)
		riders++
	}
	return b, riders
}
