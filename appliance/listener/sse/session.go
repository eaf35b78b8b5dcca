package sse

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// writeSize is about how many bytes go out in one write: what a socket buffer takes at once.
const writeSize = 32 << 10

// goodbye is how long a stream may take for its last write when the appliance stops.
const goodbye = time.Second

// maxSpare is the largest buffer that is used again; a rare large message does not stay in memory.
const maxSpare = 64 << 10

// stream is one open stream: a [courier.Link] whose writer is the handler's goroutine.
//
// Invariant: behind is true from a refused Deliver until the writer has told the shard; so a
// subscription that is behind always goes on once the queue is empty.
type stream struct {
	maxItems int
	maxBytes int64
	wake     chan struct{} // holds one signal for the writer
	gap      bool          // messages behind after are no longer kept
	after    message.ID

	mu     sync.Mutex
	queue  []courier.Delivery
	bytes  int64 // of the queue's payloads and topics
	behind bool
	lost   courier.Cause
}

func newStream(items int, bytes int64) *stream {
	return &stream{maxItems: items, maxBytes: bytes, wake: make(chan struct{}, 1)}
}

// Deliver enqueues. It never blocks.
func (t *stream) Deliver(d courier.Delivery) bool {
	size := int64(len(d.Msg.Payload) + len(d.Msg.Topic))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost != 0 {
		return false
	}
	if len(t.queue) > 0 && (len(t.queue) >= t.maxItems || t.bytes+size > t.maxBytes) {
		t.behind = true
		return false
	}
	t.queue = append(t.queue, d)
	t.bytes += size
	return true
}

// Flush has the writer begin.
func (t *stream) Flush() { t.signal() }

// Lost ends the stream after what is queued.
func (t *stream) Lost(why courier.Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost == 0 {
		t.lost = why
	}
	t.signal()
}

func (t *stream) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// take empties the queue. spare becomes the next queue.
func (t *stream) take(spare []courier.Delivery) (ds []courier.Delivery, lost courier.Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ds, t.queue, t.bytes = t.queue, spare, 0
	return ds, t.lost
}

// caughtUp reports, once, that the shard must be told that there is room again.
func (t *stream) caughtUp() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.behind
	t.behind = false
	return was
}

// serve writes until the stream ends; left says how long the client's grant holds. The error of a write is not an event worth a log line: the
// client went away or was too slow.
func (t *stream) serve(s *Server, w http.ResponseWriter, r *http.Request, a courier.Attachment, left func() time.Duration) {
	out := writer{w: w, rc: http.NewResponseController(w), timeout: s.o.WriteTimeout, spare: &s.buffers}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events for itself
	out.text("retry: " + strconv.FormatInt(s.o.Retry.Milliseconds(), 10) + "\n\n")
	if t.gap {
		out.text("event: gap\ndata: {\"after\":\"" + t.after.String() + "\"}\n\n")
	}
	if !out.flush() {
		return
	}
	heartbeat := time.NewTimer(min(s.o.Heartbeat, left()))
	defer heartbeat.Stop()
	var spare []courier.Delivery
	for {
		select {
		case <-r.Context().Done():
			// The client is gone, and this fails at once; or the appliance is stopping, and what was queued
			// counts as sent already.
			t.Lost(courier.Stopping)
			out.timeout = min(out.timeout, goodbye)
		case <-heartbeat.C:
			out.text(":\n\n")
		case <-t.wake:
		}
		ds, lost := t.take(spare)
		if !out.events(ds) {
			return
		}
		holds := left()
		if lost != 0 || holds == 0 {
			out.text("event: bye\ndata: {\"reason\":\"" + reason(lost) + "\"}\n\n")
			out.flush()
			return
		}
		if !out.flush() {
			return
		}
		clear(ds) // messages are not kept for the sake of the array
		spare = ds[:0]
		if t.caughtUp() {
			a.Ready()
		}
		heartbeat.Reset(min(s.o.Heartbeat, holds))
	}
}

func reason(c courier.Cause) string {
	switch c {
	case 0:
		return "the token has ended"
	case courier.TakenOver:
		return "taken over"
	case courier.Removed:
		return "removed"
	case courier.Stopping:
		return "stopping"
	}
	return "lost"
}

// writer gathers events and sends them in few writes, each under the deadline.
type writer struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	spare   *sync.Pool // of *[]byte: most streams are silent most of the time, so no stream keeps a buffer
	buf     []byte     // nil between writes
}

func (o *writer) text(s string) {
	if o.buf == nil {
		o.buf = *o.spare.Get().(*[]byte)
	}
	o.buf = append(o.buf, s...)
}

// events appends all deliveries and writes whenever the buffer is full.
func (o *writer) events(ds []courier.Delivery) bool {
	for i := range ds {
		o.text("") // fetches a buffer
		o.buf = appendEvent(o.buf, &ds[i])
		if len(o.buf) >= writeSize && !o.flush() {
			return false
		}
	}
	return true
}

// flush sends what is gathered; false: the client is gone or too slow.
func (o *writer) flush() bool {
	if len(o.buf) == 0 {
		return true
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.timeout)) // a test's recorder has none
	_, err := o.w.Write(o.buf)
	if b := o.buf[:0]; cap(b) <= maxSpare {
		o.spare.Put(&b)
	}
	o.buf = nil
	return err == nil && o.rc.Flush() == nil
}

// objectKey names the encoding that all streams share for one message.
type objectKey struct{}

// appendEvent writes one message as an event. The object has no line breaks
// ([codec.AppendMessage]), so one data line holds it.
func appendEvent(b []byte, d *courier.Delivery) []byte {
	if !d.Msg.ID.IsZero() {
		b = append(append(append(b, "id: "...), d.Msg.ID.String()...), '\n')
	}
	shared := d.Encoded(objectKey{}, func(m *message.Message) []byte { return codec.AppendMessage(nil, m) })
	b = append(append(b, "data: {"...), shared...)
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(d.Attempt), 10)
	if d.ExpiresIn > 0 {
		b = strconv.AppendInt(append(b, `,"expires_in":`...), int64((d.ExpiresIn+time.Second-1)/time.Second), 10)
	}
	return append(b, "}\n\n"...)
}
