package ws

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Close codes of the package doc.
const (
	codeHelloTimeout = 4001
	codeProtocol     = 4002
	codeUnauthorized = 4003
	codeStalled      = 4008
	codeTooLarge     = 4009
	codeTakenOver    = 4010
	codeRevoked      = 4011
	codeStopping     = 4012
	codeFailed       = 4013
)

const (
	maxMalformed   = 5                      // malformed objects in one session; the fifth closes it
	maxReplies     = 64 << 10               // bytes of answers waiting to be written; then the client is not read
	closeWait      = time.Second            // for the client's close frame and its end of the connection; for each write before
	takenOverRetry = 2 * time.Second        // after 4010; two sessions of one device shall not fight faster
	stalledRetry   = time.Second            // after 4008
	lingerBytes    = 1 << 20                // read and thrown away meanwhile
	respawnEvery   = 100 * time.Millisecond // see session.respawn
	respawnBurst   = 16
	frameKeep      = 4 << 10  // a frame's buffer begins with this
	frameKeepMax   = 64 << 10 // and is given to the garbage collector above this
)

// session is one connection.
//
// Invariants, under mu: unacked is the sum of all links' windows; queued and replies are the bytes of
// messages and answers in out and in the writer's hands; refused is the number of links whose
// refused is set; once closing, no message is queued and out holds answers only.
type session struct {
	h      *Handler
	conn   *websocket.Conn
	raw    syscall.RawConn // of conn, for the crew; nil: it has none
	name   string
	remote netip.Addr
	early  *auth.Grant // what the upgrade request itself proved; nil when nothing

	// Owned by the reader.
	welcomeNow bool // early came with credentials: no hello is needed
	hello      bool // a hello was answered
	first      bool // the first object has come
	inFrame    bool
	farewell   bool // the client's close frame has come
	malformed  uint8
	nextSub    int32
	respawns   int64 // when the respawns so far are paid for, on Handler.now

	mu       sync.Mutex
	wake     sync.Cond // the reader waits here: for room, and at the end for the writer
	grant    *auth.Grant
	links    []*link
	out      *queue
	queued   int
	unacked  int
	replies  int
	pubs     int // without an answer, and the bytes of their payloads
	pubBytes int
	refused  int
	lastRead int64 // Handler.now
	timer    *time.Timer
	pong     []byte // the newest ping's payload, to be answered

	writing   bool // the crew or a goroutine of its own writes; nobody else does
	blocked   bool // it is a goroutine, and its writes have a deadline
	closing   bool // nothing more is accepted; what is queued, then a close frame, ends it
	closeSent bool
	gone      bool // the connection is of no use any more
	ping      bool
	serving   bool // the reader is busy with a frame
	code      int  // of the close frame
	reason    string
	closeBy   int64 // when the client's end is waited for no longer, on Handler.now; 0: no close frame was written
}

func (s *session) begin(conn *websocket.Conn) {
	s.conn, s.raw = conn, rawOf(conn.NetConn())
	_ = conn.SetReadDeadline(time.Now().Add(s.h.o.HelloTimeout)) // an error shows at the next read
	conn.SetPingHandler(s.onPing)
	conn.SetPongHandler(func(string) error { s.heard(); return nil })
	conn.SetCloseHandler(s.onClose)
}

// run is the connection's first goroutine; it becomes the reader. Whichever goroutine is the reader last
// calls end, which releases the connection's place in the handler.
func (s *session) run() {
	if s.welcomeNow && !s.open(s.early, nil) {
		s.end()
		return
	}
	s.read()
}

// read is the connection's goroutine. It has no other frames than the wait for input, because that
// wait then fits into the smallest stack (2 KiB instead of 4): see respawn.
func (s *session) read() {
	for {
		kind, r, err := s.conn.NextReader()
		if !s.next(kind, r, err) {
			return
		}
	}
}

// next handles one frame; false: this goroutine is done.
func (s *session) next(kind int, r io.Reader, err error) bool {
	if err != nil {
		s.readFailed(err)
		s.end()
		return false
	}
	s.inFrame = true
	f := s.h.frames.Get().(*frame)
	ok := s.take(kind, r, f)
	f.reset()
	if cap(f.buf) <= frameKeepMax {
		s.h.frames.Put(f)
	}
	s.inFrame = false
	if !ok || !s.heard() {
		s.end()
		return false
	}
	return !s.respawn()
}

// respawn hands the reading over to a new goroutine: handling a frame has grown this one's stack to 4
// or 8 KiB, which the garbage collector does not take back to 2. A new one costs 1 to 2 µs, too much
// for every frame of a busy session, so there are at most respawnBurst at once and one per respawnEvery
// in the long run.
func (s *session) respawn() bool {
	now := s.h.now()
	due := max(s.respawns, now)
	if due-now > int64(respawnBurst*respawnEvery) {
		return false
	}
	s.respawns = due + int64(respawnEvery)
	go s.read() // end waits for it
	return true
}

// take reads the frame's payload and runs its objects.
func (s *session) take(kind int, r io.Reader, f *frame) bool {
	if kind != websocket.TextMessage {
		return s.bye(websocket.CloseUnsupportedData, "binary frames are not spoken here", 0)
	}
	limit := s.h.o.MaxFrame
	if !s.greeted() {
		limit = min(limit, s.h.o.HelloMax)
	}
	err := f.fill(r, limit)
	switch {
	case errors.Is(err, errTooLarge):
		s.fail(nil, message.Problemf(message.CodeTooLarge, "the frame is larger than %d bytes", limit))
		return s.bye(codeTooLarge, "frame too large", 0)
	case err != nil:
		s.readFailed(err)
		return false
	case !utf8.Valid(f.buf): // gorilla does not check (RFC 6455 §8.1)
		return s.bye(websocket.CloseInvalidFramePayloadData, "text is not valid UTF-8", 0)
	}
	for line := range f.lines() {
		if !s.room() || !s.object(line, &f.req) {
			return false
		}
	}
	s.readyLinks()
	return true
}

// room waits until the client may be served: it reads its answers and not too many pubs are on their
// way. False: the session is over.
func (s *session) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = true
	for !s.closing && (s.replies > maxReplies || s.pubs >= s.h.o.MaxPubsInFlight || s.pubBytes > s.h.o.MaxPubBytes) {
		s.wake.Wait()
	}
	return !s.closing
}

func (s *session) greeted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant != nil
}

func (s *session) principal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grant == nil {
		return ""
	}
	return s.grant.Principal()
}

// heard notes a sign of life for tick; false when the session is closing. Before the welcome, and
// inside a frame, only progress of the whole counts.
func (s *session) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.grant == nil || s.inFrame {
		return true
	}
	s.serving = false
	s.lastRead = s.h.now()
	return true
}

func (s *session) onPing(payload string) error {
	s.mu.Lock()
	if !s.closing {
		s.pong = append(s.pong[:0:0], payload...) // only the newest needs an answer (RFC 6455 §5.5.3)
		if s.pong == nil {
			s.pong = []byte{}
		}
		s.startLocked()
	}
	s.mu.Unlock()
	s.heard()
	return nil
}

// onClose echoes the client's close frame (RFC 6455 §5.5.1); the reader then ends.
func (s *session) onClose(code int, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.farewell = true
	s.closeLocked(code, "")
	return nil
}

// readFailed says goodbye to a client that was too slow with its hello.
func (s *session) readFailed(err error) {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && !s.greeted() {
		s.bye(codeHelloTimeout, "no hello in time", 0)
	}
}

// tick pings a client that was silent for PingEvery, and ends the session PongTimeout later. It alone
// watches the client after the welcome, so that a read needs no deadline of its own.
func (s *session) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	if s.serving { // it is we who do not read
		s.lastRead = s.h.now()
	}
	silent := time.Duration(s.h.now() - s.lastRead)
	left := s.h.o.PingEvery - silent
	switch {
	case silent >= s.h.o.PingEvery+s.h.o.PongTimeout:
		s.h.slow.Add(1)
		s.byeLocked(codeStalled, "no answer to a ping", stalledRetry)
		return
	case left <= 0:
		left += s.h.o.PongTimeout
		s.ping = true
		s.startLocked()
		for _, l := range s.links { // an idle session holds no empty windows
			if l.window.Len() == 0 {
				l.window = courier.Window{}
			}
		}
	}
	s.timer.Reset(left)
}

// open makes the session usable as g: a device gets its inbox, then the welcome is sent, then come
// messages. It reports whether the session goes on.
func (s *session) open(g *auth.Grant, id []byte) bool {
	var inbox *link
	if g.Kind == auth.Device {
		inbox = &link{s: s}
		ctx, cancel := context.WithTimeout(s.h.ctx, s.h.o.RequestTimeout)
		defer cancel()
		a, err := s.h.o.Subscriber.OpenInbox(ctx, g, inbox, s.h.attachOptions())
		if err != nil {
			return s.openFailed(id, s.h.problem(err, "open the inbox"))
		}
		inbox.att = a
	}
	s.mu.Lock()
	s.grant = g
	s.replyLocked(s.h.welcome(id, s.name))
	if !s.closing {
		s.lastRead = s.h.now()
		_ = s.conn.SetReadDeadline(time.Time{})
		s.timer = time.AfterFunc(s.h.o.PingEvery, s.tick)
	}
	s.mu.Unlock()
	if inbox != nil {
		s.attach(inbox)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing
}

func (s *session) openFailed(id []byte, p *message.Problem) bool {
	s.fail(id, p)
	switch p.Code {
	case message.CodeUnauthorized, message.CodeForbidden, message.CodeNotFound, message.CodeUnknownDevice:
		return s.bye(codeUnauthorized, "unauthorized", 0)
	case message.CodeTooMany:
		return s.bye(codeUnauthorized, "too many failed attempts", 30*time.Second)
	case message.CodeUnavailable:
		return s.bye(codeStopping, "stopping", retryAfterStop())
	default:
		return s.bye(codeFailed, "the session could not be opened", retryAfterStop())
	}
}

// end gives everything back. The connection is closed last, after the writer said what was left to
// say.
func (s *session) end() {
	defer s.h.release(s)
	s.mu.Lock()
	s.closeLocked(0, "")
	links, why := s.links, s.whyLocked()
	s.links = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	for _, l := range links {
		l.att.Close(why)
	}
	s.mu.Lock()
	for s.writing {
		s.wake.Wait()
	}
	linger := !s.gone && !s.farewell
	s.gone = true
	wait := closeWait
	if s.closeBy != 0 {
		wait = time.Duration(s.closeBy - s.h.now())
	}
	s.mu.Unlock()
	if linger && wait > 0 {
		s.linger(wait)
	}
	_ = s.conn.Close()
}

// whyLocked says why the session ended.
func (s *session) whyLocked() string {
	switch {
	case s.farewell:
		return courier.Goodbye
	case s.reason != "":
		return s.reason
	}
	return courier.Broken
}

// linger lets the client read the close frame: closing a TCP connection with unread input resets it
// and may take what was sent with it (RFC 6455 §7.1.1).
func (s *session) linger(wait time.Duration) {
	conn := s.conn.NetConn()
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // if it fails, so does the read below
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, lingerBytes))
}

// cut ends the connection without a word.
func (s *session) cut() {
	s.mu.Lock()
	s.gone = true
	s.closeLocked(0, "")
	s.mu.Unlock()
	_ = s.conn.Close()
}
