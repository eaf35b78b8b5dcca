package ws

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/quiet"
	"edgepost/appliance/message"
)

// Subprotocol is the one dialect spoken here (RFC 6455 §1.9).
const Subprotocol = "edgepost.v1.json"

// Authenticator says who presents credentials; errors are [message.Problem] values.
type Authenticator interface {
	Authenticate(ctx context.Context, c auth.Credentials) (*auth.Grant, error)
}

// Publisher stores messages. It checks the grant and the message. done runs once, after the fsync;
// it may run before PublishAsync returns.
type Publisher interface {
	PublishAsync(g *auth.Grant, m *message.Message, done func(message.StoredAs, error))
}

// Subscriber attaches links. Errors are [message.Problem] values where the client can act. A link
// may be called before the call that attaches it returns.
type Subscriber interface {
	OpenInbox(ctx context.Context, g *auth.Grant, link courier.Link, o courier.AttachOptions) (courier.Attachment, error)
	Subscribe(ctx context.Context, g *auth.Grant, r courier.Request, link courier.Link, o courier.AttachOptions) (a courier.Attachment, gap bool, err error)
	Unsubscribe(ctx context.Context, g *auth.Grant, name string) error
}

// Options are what a [Handler] needs. The three interfaces are required; every other zero value takes
// its default.
type Options struct {
	Authenticator Authenticator
	Publisher     Publisher
	Subscriber    Subscriber

	Epoch       message.Epoch              // told in the welcome
	Session     func() string              // names a session; default 12 random signs
	AllowOrigin func(r *http.Request) bool // default: no Origin header, or the request's own host
	Log         *slog.Logger               // default: slog.Default

	MaxConnections  int           // 10,000; more get 503
	HelloTimeout    time.Duration // 5 s from the upgrade to a whole hello
	HelloMax        int           // 4 KiB, bytes of a frame before the welcome
	MaxFrame        int           // 512 KiB, bytes of a frame, all fragments together
	MaxInflight     int           // 64 unacknowledged messages a session
	MaxBytes        int           // 262,144 bytes queued a session; one larger message passes alone
	MaxSubs         int           // 32 a session, beside the inbox
	MaxPubsInFlight int           // 64 pubs without an answer; then the client is not read
	MaxPubBytes     int           // 512 KiB of payload in those pubs
	PingEvery       time.Duration // 25 s without a frame from the client
	PongTimeout     time.Duration // 10 s from the ping to any frame
	WriteTimeout    time.Duration // 10 s for one write
	RequestTimeout  time.Duration // 30 s for a hello, sub or unsub inside the appliance
	AckTimeout      time.Duration // 30 s unacknowledged is a failed attempt; negative: never
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&o.MaxConnections, 10_000},
		{&o.HelloMax, 4 << 10},
		{&o.MaxFrame, 512 << 10},
		{&o.MaxInflight, 64},
		{&o.MaxBytes, 256 << 10},
		{&o.MaxSubs, 32},
		{&o.MaxPubsInFlight, 64},
		{&o.MaxPubBytes, 512 << 10},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.HelloTimeout, 5 * time.Second},
		{&o.PingEvery, 25 * time.Second},
		{&o.PongTimeout, 10 * time.Second},
		{&o.WriteTimeout, 10 * time.Second},
		{&o.RequestTimeout, 30 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	switch {
	case o.AckTimeout == 0:
		o.AckTimeout = 30 * time.Second
	case o.AckTimeout < 0:
		o.AckTimeout = 0
	}
	if o.Session == nil {
		o.Session = func() string { return strings.ToLower(rand.Text()[:12]) }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// Handler serves WebSocket upgrades. Make one with [New]; it is safe for concurrent use. The
// http.ResponseWriter it is given must implement http.Hijacker.
type Handler struct {
	o        Options
	upgrader websocket.Upgrader
	start    time.Time
	input    *quiet.Buffers
	requests sync.Pool // *request, while a message is handled
	queues   sync.Pool // *queue, while a session has something to write
	turns    sync.Pool // *turn, while a session is written to
	crew     crew
	ctx      context.Context
	cancel   context.CancelFunc // ends the waits inside the appliance when Close is forced

	dropped atomic.Int64
	slow    atomic.Int64

	mu       sync.Mutex
	sessions map[*session]struct{}
	held     int // connections, those still in the upgrade included
	stopping bool
	empty    bool
	drained  chan struct{} // closed with empty: stopping, and nothing is held
}

// New makes a handler for GET /v1/ws.
func New(o Options) *Handler {
	o.setDefaults()
	h := &Handler{
		o:        o,
		start:    time.Now(),
		input:    quiet.NewBuffers(),
		sessions: make(map[*session]struct{}),
		drained:  make(chan struct{}),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.upgrader = websocket.Upgrader{
		// Only the upgrade is gorilla's: the session reads and writes the connection itself.
		ReadBufferSize:  256,
		WriteBufferSize: 1024,
		WriteBufferPool: &sync.Pool{},
		Subprotocols:    []string{Subprotocol},

		HandshakeTimeout: o.WriteTimeout,

		CheckOrigin: o.AllowOrigin,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			code := message.CodeBadRequest
			if status == http.StatusForbidden {
				code = message.CodeForbidden
			}
			w.Header().Set("Sec-WebSocket-Version", "13")
			refuse(w, status, message.Problemf(code, "%s", strings.TrimPrefix(reason.Error(), "websocket: ")))
		},
	}
	h.requests.New = func() any { return new(request) }
	h.queues.New = func() any { return new(queue) }
	h.turns.New = func() any { return &turn{buf: make([]byte, 0, batchBytes)} }
	h.crew.h, h.crew.most = h, runtime.GOMAXPROCS(0)
	return h
}

// ServeHTTP upgrades the connection and returns at once; the session goes on by itself. What it
// refuses it answers with problem+json (RFC 9457): 400 another subprotocol, 401, 403 origin, 426 no
// upgrade asked, 503 too many connections or stopping.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		refuse(w, http.StatusUpgradeRequired, message.Problemf(message.CodeBadRequest,
			"this address speaks WebSocket over HTTP/1.1, subprotocol %s", Subprotocol))
		return
	}
	if asked := websocket.Subprotocols(r); len(asked) > 0 && !offers(asked, Subprotocol) {
		refuse(w, http.StatusBadRequest, message.Problemf(message.CodeBadRequest,
			"no subprotocol of %.100q is spoken here; ask for %s, or for none", strings.Join(asked, ", "), Subprotocol))
		return
	}
	s, status, p := h.admit(r)
	if p != nil {
		h.release(nil)
		refuse(w, status, p)
		return
	}
	conn, err := h.upgrader.Upgrade(w, r, nil)
	if err != nil {
		h.release(nil)
		return // the upgrader has answered
	}
	s.begin(conn.NetConn())
	h.mu.Lock()
	h.sessions[s] = struct{}{}
	stopping := h.stopping
	h.mu.Unlock()
	if stopping {
		s.bye(codeStopping, "stopping", retryAfterStop())
	}
	go s.run() // release waits for it
}

// admit holds a place and authenticates what the request itself carries. The place is held even
// when it returns a problem.
func (h *Handler) admit(r *http.Request) (*session, int, *message.Problem) {
	h.mu.Lock()
	h.held++
	held, stopping := h.held, h.stopping
	h.mu.Unlock()
	switch {
	case stopping:
		return nil, http.StatusServiceUnavailable, message.Problemf(message.CodeUnavailable, "the appliance is stopping; try again in a few seconds")
	case held > h.o.MaxConnections:
		return nil, http.StatusServiceUnavailable, message.Problemf(message.CodeTooMany,
			"all %d WebSocket connections are in use; try again later", h.o.MaxConnections)
	}
	c, err := auth.FromRequest(r)
	if err != nil {
		p := h.problem(err, "read credentials")
		return nil, statusOf(p), p
	}
	c.Via = "ws"
	s := &session{h: h, name: h.o.Session(), remote: c.Remote, shown: c.Shown, nextSub: 1}
	s.wake.L = &s.mu
	s.early, _ = auth.GrantFrom(r.Context())
	if c.Empty() {
		return s, 0, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.RequestTimeout)
	defer cancel()
	if s.early, err = h.o.Authenticator.Authenticate(ctx, c); err != nil {
		p := h.problem(err, "authenticate")
		return nil, statusOf(p), p
	}
	s.welcomeNow = true
	return s, 0, nil
}

// release gives a connection's place back.
func (h *Handler) release(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, s)
	h.held--
	h.drainedLocked()
}

// drainedLocked says, once, that nothing is held any more. Who comes later holds a place for the time of
// its refusal.
func (h *Handler) drainedLocked() {
	if h.stopping && h.held == 0 && !h.empty {
		h.empty = true
		close(h.drained)
	}
}

// Close refuses new connections, says bye 4012 to every session and waits until all are gone. When
// ctx ends first it cuts the remaining ones and returns ctx's error.
func (h *Handler) Close(ctx context.Context) error {
	h.mu.Lock()
	h.stopping = true
	h.drainedLocked()
	h.mu.Unlock()
	for _, s := range h.all() {
		s.bye(codeStopping, "stopping", retryAfterStop())
	}
	defer h.cancel()
	select {
	case <-h.drained:
		h.crew.busy.Wait() // its last session is gone, so it is about to end
		return nil
	case <-ctx.Done():
	}
	h.cancel()
	for _, s := range h.all() {
		s.cut()
	}
	select {
	case <-h.drained:
	case <-time.After(closeWait): // a call into the appliance ignores its context; do not hang on it
	}
	return context.Cause(ctx)
}

// Kick closes every session of the principal ("device/lamp1", "key/app") with 4011 and returns how
// many there were. Call it when a credential is revoked or its owner removed.
func (h *Handler) Kick(principal string) int {
	n := 0
	for _, s := range h.all() {
		if s.principal() == principal {
			s.bye(codeRevoked, "removed or revoked", 0)
			n++
		}
	}
	return n
}

// Recheck ends every session whose grant holds no more, with 4003, and returns how long the next one
// holds. left says how long a grant holds; 0: not any more.
func (h *Handler) Recheck(left func(*auth.Grant) time.Duration) time.Duration {
	next := auth.Forever
	for _, s := range h.all() {
		s.mu.Lock()
		g := s.grant
		s.mu.Unlock()
		if g == nil {
			continue
		}
		if d := left(g); d > 0 {
			next = min(next, d)
		} else {
			s.bye(codeUnauthorized, "the token has ended", 0)
		}
	}
	return next
}

func (h *Handler) all() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*session, 0, len(h.sessions))
	for s := range h.sessions {
		list = append(list, s)
	}
	return list
}

// Stats are counters of one handler since it was made, and the connections it has now.
type Stats struct {
	Connections int64
	Dropped     int64 // volatile messages that a full queue did not take
	Slow        int64 // connections cut because the client did not read or answer
}

// Stats returns the counters.
func (h *Handler) Stats() Stats {
	h.mu.Lock()
	n := len(h.sessions)
	h.mu.Unlock()
	return Stats{Connections: int64(n), Dropped: h.dropped.Load(), Slow: h.slow.Load()}
}

// problem turns any error into what a client may see; an internal one is logged, not told.
func (h *Handler) problem(err error, doing string) *message.Problem {
	if p := message.ProblemOf(err); p != nil {
		return p
	}
	h.o.Log.Error("websocket request failed", "doing", doing, "error", err)
	return message.Problemf(codeInternal, "the appliance failed to %s; its log says why", doing)
}

// codeInternal is the code of errors that nobody outside can act on.
const codeInternal = "internal"

func offers(asked []string, want string) bool {
	return slices.Contains(asked, want)
}

func statusOf(p *message.Problem) int {
	switch p.Code {
	case message.CodeUnauthorized:
		return http.StatusUnauthorized
	case message.CodeForbidden:
		return http.StatusForbidden
	case message.CodeTooMany:
		return http.StatusTooManyRequests
	case message.CodeUnavailable:
		return http.StatusServiceUnavailable
	case codeInternal:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// refuse answers a request that stays HTTP.
func refuse(w http.ResponseWriter, status int, p *message.Problem) {
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="edgepost"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	body, err := json.Marshal(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": p.Code, "detail": p.Detail,
	})
	if err == nil { // a map of strings and an int always marshals
		_, _ = w.Write(body)
	}
}

// retryAfterStop spreads the clients of a restarted appliance over four seconds.
func retryAfterStop() time.Duration {
	return time.Second + time.Duration(mrand.Int64N(int64(4*time.Second)))
}

// now is the monotonic time since the handler was made.
func (h *Handler) now() int64 { return int64(time.Since(h.start)) }
