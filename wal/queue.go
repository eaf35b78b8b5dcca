package wal

import (
	"context"
	"fmt"
	"sync"
)

// request is one Append.
type request struct {
	recs []Record
	size int64
	done func(first uint64, err error)
	err  error // refused already; the committer only answers

	urgent bool // may have the space of the reserve file
}

// queue holds the appends that wait for the committer.
type queue struct {
	mu     sync.Mutex
	list   []request
	bytes  int64
	want   int // signal the committer at this many
	flush  bool
	closed bool
	room   chan struct{} // closed and replaced when bytes falls below the limit
	signal chan struct{} // capacity 1
}

func (q *queue) init() {
	q.want = 1
	q.room = make(chan struct{})
	q.signal = make(chan struct{}, 1)
}

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// put adds r, waiting while too much is queued.
func (q *queue) put(ctx context.Context, r request) error {
	q.mu.Lock()
	for q.bytes > queueLimit && !q.closed {
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		q.mu.Lock()
	}
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.list = append(q.list, r)
	q.bytes += r.size
	ready := len(q.list) >= q.want || q.bytes >= frameTarget
	q.mu.Unlock()
	if ready {
		q.wake()
	}
	return nil
}

// take returns the requests of the next frame: as many as fit, at least one if there are any.
func (q *queue) take(into []request) []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	var size int64
	n := 0
	for n < len(q.list) && (n == 0 || size+q.list[n].size <= frameTarget) {
		size += q.list[n].size
		n++
	}
	taken := append(into[:0], q.list[:n]...)
	rest := copy(q.list, q.list[n:])
	clear(q.list[rest:])
	q.list = q.list[:rest]
	if q.bytes > queueLimit && q.bytes-size <= queueLimit {
		close(q.room)
		q.room = make(chan struct{})
	}
	q.bytes -= size
	q.flush = false
	return taken
}

// waiting returns what is queued, and whether a commit should no longer wait for company. want is what to signal at.
func (q *queue) waiting(want int) (n int, hurry bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.want = want
	return len(q.list), q.closed || q.bytes >= frameTarget
}

// state reports whether there is work, and whether the queue is closed.
func (q *queue) state() (work, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) > 0 || q.flush, q.closed
}

// close refuses further puts. It reports whether it was open.
func (q *queue) close() bool {
	q.mu.Lock()
	was := q.closed
	q.closed = true
	close(q.room)
	q.room = make(chan struct{})
	q.mu.Unlock()
	q.wake()
	return !was
}

// Append queues recs for the next frame and returns; it blocks only while more than 4 MiB are queued. All recs of one
// call share one frame: after a crash there are all of them or none. done, if not nil, is called exactly once: by the
// committer after the fsync, in the order of the sequence numbers, with the number of the first record or with an error
// that is ErrTooLarge, ErrFull, ErrFailed or ErrClosed. It must not block. (After Close, and before Start, Append calls
// done itself.) The data must not change until done is called. Without recs done gets the last committed number.
//
// After ErrFull or ErrFailed the records are as a rule not stored; if the machine goes down right then, they may be.
func (l *Log) Append(recs []Record, done func(first uint64, err error)) {
	l.enqueue(request{recs: recs, done: done})
}

// AppendUrgent is Append for few small records that must not wait for space, such as that a credential no longer holds:
// while the disk is full they go into the space of the reserve file, like riders. It refuses with ErrFull only when that
// is used up too. The file is written again as soon as there is space.
func (l *Log) AppendUrgent(recs []Record, done func(first uint64, err error)) {
	l.enqueue(request{recs: recs, done: done, urgent: true})
}

func (l *Log) enqueue(r request) {
	if r.done == nil {
		r.done = func(uint64, error) {}
	}
	if err := l.append(context.Background(), r); err != nil {
		r.done(0, err)
	}
}

// append queues r; its size is filled in here.
func (l *Log) append(ctx context.Context, r request) error {
	l.mu.RLock()
	started := l.started
	l.mu.RUnlock()
	if !started {
		return fmt.Errorf("%w: it was not started", ErrClosed)
	}
	if r.size = rawSize(r.recs); r.size > MaxAppend {
		r = request{done: r.done, err: fmt.Errorf("%w: %d bytes in one append, at most %d", ErrTooLarge, r.size, MaxAppend)}
	}
	return l.queue.put(ctx, r)
}

// rawSize is what recs take in a frame, at most.
func rawSize(recs []Record) int64 {
	var n int64
	for i := range recs {
		n += int64(len(recs[i].Data)) + 4
	}
	return n
}

// AppendWait appends recs and waits for the fsync. If ctx ends first its error is returned, and the records may or may
// not have been stored. It must not be called from Collect, Committed or a done function.
func (l *Log) AppendWait(ctx context.Context, recs ...Record) (uint64, error) {
	type answer struct {
		first uint64
		err   error
	}
	ch := make(chan answer, 1)
	if err := l.append(ctx, request{recs: recs, done: func(first uint64, err error) { ch <- answer{first, err} }}); err != nil {
		return 0, err
	}
	select {
	case a := <-ch:
		return a.first, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Flush asks for a commit even if only Collect has something, and does not wait. Without anything no frame is written.
func (l *Log) Flush() {
	l.queue.mu.Lock()
	l.queue.flush = true
	l.queue.mu.Unlock()
	l.queue.wake()
}
