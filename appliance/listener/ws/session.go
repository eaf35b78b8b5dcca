package ws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/quiet"
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
)

// session is one connection.
//
// Invariants, under mu: unacked is the sum of all links' windows; queued and replies are the bytes of
// messages and answers in out and in the writer's hands; refused is the number of links whose
// refused is set; once closing, no message is queued and out holds answers only.
type session struct {
	h      *Handler
	conn   net.Conn
	name   string
	remote netip.Addr
	shown  string      // thumbprint of the client's certificate; "" none
	early  *auth.Grant // what the upgrade request itself proved; nil when nothing

	// Owned by the reader.
	in         quiet.Input // its Raw is also the writer's: it stays the same
	begun      *fragments  // of the message that is incomplete; nil: none is
	respawns   int64       // when the respawns so far are paid for, on Handler.now
	nextSub    int32
	malformed  uint8
	welcomeNow bool // early came with credentials: no hello is needed
	hello      bool // a hello was answered
	first      bool // the first object has come
	farewell   bool // the client's close frame has come

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
	lastRead int64  // Handler.now
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

func (s *session) begin(conn net.Conn) {
	if w, ok := conn.(interface{ Bare() net.Conn }); ok { // what a lane in front of net/http wraps
		if bare := w.Bare(); bare != nil {
			conn = bare
		}
	}
	s.conn, s.in = conn, quiet.New(conn, s.h.input)
	_ = conn.SetReadDeadline(time.Now().Add(s.h.o.HelloTimeout)) // an error shows at the next read
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

// read is the connection's goroutine. It has no other frames than the wait for input: see [quiet].
func (s *session) read() {
	for {
		err := s.in.Fill()
		if !s.next(err) {
			return
		}
	}
}

// next handles what was read; false: this goroutine is done.
func (s *session) next(err error) bool {
	ok := len(s.in.Bytes()) == 0 || s.frames()
	if ok && err != nil {
		ok = s.readFailed(err)
	}
	if !ok {
		s.in.Drop()
		s.end()
		return false
	}
	return s.in.Held() || !s.respawn()
}

// frames handles the frames that are complete. gorilla's reader is not used for it: that waits for the next
// message in a stack of 4 KiB and keeps a buffer meanwhile.
func (s *session) frames() bool {
	input, at, need := s.in.Bytes(), 0, 0
	for at < len(input) {
		h, err := readHead(input[at:])
		if errors.Is(err, errShort) {
			break
		}
		if err != nil {
			return s.breach(err)
		}
		if limit := s.limit(); h.opcode <= websocket.BinaryMessage && h.length > uint64(limit-s.begun.size()) {
			s.fail(nil, message.Problemf(message.CodeTooLarge, "the frame is larger than %d bytes", limit))
			return s.bye(codeTooLarge, "frame too large", 0)
		}
		if need = h.size + int(h.length); len(input)-at < need {
			break
		}
		payload := input[at+h.size : at+need]
		unmask(payload, h.key)
		if !s.frame(h, payload) {
			return false
		}
		at, need = at+need, 0
	}
	s.in.Took(at, need)
	return true
}

// limit is how many bytes a message of the client may have now.
func (s *session) limit() int {
	if !s.greeted() {
		return min(s.h.o.MaxFrame, s.h.o.HelloMax)
	}
	return s.h.o.MaxFrame
}

// breach ends the session of a client that breaks the rules of framing.
func (s *session) breach(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(websocket.CloseProtocolError, err.Error())
	return false
}

// frame handles one frame; false: the session is over.
func (s *session) frame(h head, payload []byte) bool {
	switch h.opcode {
	case websocket.PingMessage:
		s.ponged(payload)
		return s.heard()
	case websocket.PongMessage:
		return s.heard()
	case websocket.CloseMessage:
		return s.closed(payload)
	case continuation:
		if s.begun == nil {
			return s.breach(breach("a continuation of nothing"))
		}
		s.begun.payload = append(s.begun.payload, payload...)
		if !h.final {
			return true
		}
		h.opcode, payload = s.begun.opcode, s.begun.payload
		s.begun = nil
	default:
		if s.begun != nil {
			return s.breach(breach("a message begins inside another"))
		}
		if !h.final {
			s.begun = &fragments{h.opcode, bytes.Clone(payload)}
			return true
		}
	}
	return s.take(h.opcode, payload) && s.heard()
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

// take runs the objects of a message.
func (s *session) take(opcode byte, text []byte) bool {
	if opcode != websocket.TextMessage {
		return s.bye(websocket.CloseUnsupportedData, "binary frames are not spoken here", 0)
	}
	if !utf8.Valid(text) { // RFC 6455 §8.1
		return s.bye(websocket.CloseInvalidFramePayloadData, "text is not valid UTF-8", 0)
	}
	r := s.h.requests.Get().(*request)
	ok := true
	for line := range objects(text) {
		if ok = s.room() && s.object(line, r); !ok {
			break
		}
	}
	r.reset()
	s.h.requests.Put(r)
	if ok {
		s.readyLinks()
	}
	return ok
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
// inside a message, only progress of the whole counts.
func (s *session) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.grant == nil || s.begun != nil {
		return true
	}
	s.serving = false
	s.lastRead = s.h.now()
	return true
}

// ponged has a ping answered; only the newest needs it (RFC 6455 §5.5.3).
func (s *session) ponged(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.pong = append(make([]byte, 0, len(payload)), payload...)
		s.startLocked()
	}
}

// closed echoes the client's close frame (RFC 6455 §5.5.1) and ends the session.
func (s *session) closed(payload []byte) bool {
	code, err := closing(payload)
	if err != nil {
		return s.breach(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.farewell = true
	s.closeLocked(code, "")
	return false
}

// readFailed reports whether the session goes on: it does when the read's deadline was only that of tick. A
// client that was too slow with its hello is said goodbye to.
func (s *session) readFailed(err error) bool {
	var timeout net.Error
	switch {
	case !errors.As(err, &timeout) || !timeout.Timeout():
		return false
	case !s.greeted():
		return s.bye(codeHelloTimeout, "no hello in time", 0)
	}
	return s.tick()
}

// tick pings a client that was silent for PingEvery, and ends the session PongTimeout later; then it is false.
// The reads' deadline calls it, so that no session needs a timer.
func (s *session) tick() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
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
		return false
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
	_ = s.conn.SetReadDeadline(time.Now().Add(left)) // fails on a closed connection only
	return true
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
		_ = s.conn.SetReadDeadline(time.Now().Add(s.h.o.PingEvery))
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
	conn := s.conn
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
