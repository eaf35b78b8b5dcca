package mqtt

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// Authenticator says who presents credentials; errors are [message.Problem] values.
type Authenticator interface {
	Authenticate(ctx context.Context, c auth.Credentials) (*auth.Grant, error)
}

// Publisher stores messages and the notes of durable sessions. It checks the grant and the message. Each
// done runs once, after the fsync, on a goroutine that must not be held up, or before the call
// returns.
type Publisher interface {
	PublishAsync(g *auth.Grant, m *message.Message, done func(message.StoredAs, error))
	// PublishNoted stores the message and the notes together: both or neither.
	PublishNoted(g *auth.Grant, m *message.Message, client string, notes []courier.Note, done func(message.StoredAs, error))
	// Bury stores a message to a device or group that does not exist as a dead letter, together with the notes,
	// if any.
	Bury(g *auth.Grant, m *message.Message, client string, notes []courier.Note, done func(message.StoredAs, error))
	Note(g *auth.Grant, client string, notes []courier.Note, done func(error))
}

// Sessions keeps what clients subscribed. What is durable is on stable storage when a call returns.
type Sessions interface {
	SessionState(ctx context.Context, g *auth.Grant, client string) (st courier.SessionState, ok bool, err error)
	// OpenSession makes the session if it is missing and gives it to the link; an older link loses it.
	OpenSession(ctx context.Context, g *auth.Grant, spec courier.SessionSpec, link courier.Link, o courier.AttachOptions) (courier.Attachment, error)
	// ChangeSession replaces what the session subscribes; retained messages that show selects are
	// delivered besides, marked so.
	ChangeSession(ctx context.Context, g *auth.Grant, spec courier.SessionSpec, show []message.Filter) error
	EndSession(ctx context.Context, g *auth.Grant, client string) error
}

// Subscriber is what subscriptions need beside [Sessions]. Errors are [message.Problem] values where
// the client can act.
type Subscriber interface {
	MaySubscribe(g *auth.Grant, f message.Filter) error
	// Retained returns the retained messages that the filter selects, for filters of QoS 0.
	Retained(ctx context.Context, g *auth.Grant, f message.Filter) ([]*message.Message, error)
	OpenInbox(ctx context.Context, g *auth.Grant, link courier.Link, o courier.AttachOptions) (courier.Attachment, error)
	Shared(ctx context.Context, g *auth.Grant, group string, f message.Filter, link courier.Link, o courier.AttachOptions) (courier.Member, error)
}

// Wills keeps what clients leave for their ends, so that the end of the appliance does not lose it. A will
// is known by its client and its token. Each done runs as those of [Publisher].
type Wills interface {
	// KeepWill stores the client's will in the place of the one before; durable on return.
	KeepWill(ctx context.Context, g *auth.Grant, w courier.KeptWill) error
	// EndWill stores that the will is not to be published.
	EndWill(g *auth.Grant, client, token string, done func(error))
	// PublishWill stores the message and the end of its will together: both or neither.
	PublishWill(g *auth.Grant, m *message.Message, token string, done func(message.StoredAs, error))
	// EachWill calls fn for every kept will that has not ended.
	EachWill(fn func(g *auth.Grant, w courier.KeptWill))
}

// Options are what a [Server] needs. The five interfaces are required; every other zero value takes
// its default.
type Options struct {
	Authenticator Authenticator
	Publisher     Publisher
	Sessions      Sessions
	Subscriber    Subscriber
	Wills         Wills

	// InInbox says whether the filter lies inside the inbox of the grant's device, so that
	// subscribing it binds the inbox. Default: inside "device/<id>/in/#".
	InInbox func(g *auth.Grant, f message.Filter) bool
	// Commands are filters inside the inbox of the grant's device that its profile put there. A filter that covers
	// some of them binds the inbox too, and their messages come from there, once. Default: none.
	Commands func(g *auth.Grant) []message.Filter

	// Reaches says whether any subscription selects the topic, so that publishers of 5.0 are told 0x10
	// when none does. It is called for every publish above QoS 0. nil: they are not told.
	Reaches func(t message.Topic) bool

	// Owed says whether a device's inbox selects the topic: then a publish of QoS 0 is stored, so that a device
	// that is away gets it. nil: only what the publisher asks for is stored.
	Owed func(t message.Topic) bool
	// Census counts what is kept, for the $SYS topics. nil: they count what is connected.
	Census func() Census

	Version  string        // told in $SYS/broker/version
	ClientID func() string // assigns client ids; default "ep-" and 16 random signs
	Log      *slog.Logger  // default: slog.Default

	MaxConnections   int           // 10,000; more are closed at once
	ConnectTimeout   time.Duration // 5 s from the connection to a whole CONNECT
	ConnectMax       int           // 64 KiB, bytes of a CONNECT
	MaxPacket        int           // 2,000,000 bytes of any other packet
	MaxMessage       int           // message.MaxPayload; a larger payload is read and refused
	ReceiveMaximum   int           // 20 publishes of QoS 1 and 2 that a client of 5.0 may have open
	TopicAliases     int           // 10 topic aliases that a client of 5.0 may set; negative: none
	MaxInflight      int           // 64 messages a client has not acknowledged; its own limit may be lower
	MaxBytes         int           // 262,144 bytes queued a session; one larger message passes alone
	MaxSubscriptions int           // 1,000 filters a session
	MaxPubsInFlight  int           // 256 publishes not yet stored; then the client is not read
	MaxPubBytes      int           // 512 KiB of payload in those
	WriteTimeout     time.Duration // 10 s for one write
	RequestTimeout   time.Duration // 30 s for a CONNECT or SUBSCRIBE inside the appliance
	SessionExpiry    time.Duration // 7 days that a session of 3.1 and 3.1.1 with clean session 0 is kept
	MaxSessionExpiry time.Duration // most that a client of 5.0 gets; 0: what it asks for, also for ever
	MaxKeepAlive     int           // seconds, 1 to 65,535; a client of 5.0 is told; 0: as the client says
	SystemEvery      time.Duration // 10 s between two rounds of $SYS topics
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&o.MaxConnections, 10_000},
		{&o.ConnectMax, 64 << 10},
		{&o.MaxPacket, 2_000_000},
		{&o.MaxMessage, message.MaxPayload},
		{&o.ReceiveMaximum, 20},
		{&o.MaxInflight, 64},
		{&o.MaxBytes, 256 << 10},
		{&o.MaxSubscriptions, 1000},
		{&o.MaxPubsInFlight, 256},
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
		{&o.ConnectTimeout, 5 * time.Second},
		{&o.WriteTimeout, 10 * time.Second},
		{&o.RequestTimeout, 30 * time.Second},
		{&o.SessionExpiry, 7 * 24 * time.Hour},
		{&o.SystemEvery, 10 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.TopicAliases == 0 {
		o.TopicAliases = 10
	}
	o.TopicAliases = min(max(o.TopicAliases, 0), math.MaxUint16)
	o.ReceiveMaximum = min(o.ReceiveMaximum, math.MaxUint16)
	o.MaxKeepAlive = min(max(o.MaxKeepAlive, 0), math.MaxUint16)
	o.MaxInflight = min(o.MaxInflight, maxFlights)
	if o.ClientID == nil {
		o.ClientID = func() string { return "ep-" + strings.ToLower(rand.Text()[:16]) }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.InInbox == nil {
		o.InInbox = func(g *auth.Grant, f message.Filter) bool { return message.InboxOf(g.Name).Covers(f) }
	}
}

// Server speaks MQTT on any number of listeners. Make one with [New]; it is safe for concurrent
// use.
type Server struct {
	o        Options
	none     *filters // of a session without any
	start    time.Time
	pools    pools
	count    counters
	wills    willRoom
	system   systemRoom
	loads    loads
	upgrader websocket.Upgrader
	ctx      context.Context
	cancel   context.CancelFunc // ends the waits inside the appliance when Close is forced

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	clients   map[string]*session // by principal and client id
	held      int                 // connections, those still in the upgrade included
	stopping  bool
	drained   chan struct{} // closed once stopping and nothing is held
}

// New makes a server; it does nothing until [Server.Serve] or [Server.ServeHTTP] is called.
func New(o Options) *Server {
	o.setDefaults()
	s := &Server{
		o:         o,
		none:      newFilters(nil),
		upgrader:  newUpgrader(),
		start:     time.Now(),
		listeners: make(map[net.Listener]struct{}),
		sessions:  make(map[*session]struct{}),
		clients:   make(map[string]*session),
		drained:   make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.pools.init()
	return s
}

// ErrClosed is what Serve returns after Close.
var ErrClosed = errors.New("mqtt server closed")

// Serve accepts connections until the listener fails or [Server.Close] is called, and closes the
// listener. After Close the error is [ErrClosed]. It may run for several listeners at once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = l.Close()
		return ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		_ = l.Close() // closed twice at worst
	}()
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(conn, addrOf(conn.RemoteAddr()), nil)
			continue
		case s.stopped():
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return err
		}
		// Out of descriptors, most likely: they come back when connections end.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.o.Log.Warn("accepting an MQTT connection failed; trying again", "error", err, "in", pause)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	}
}

// accept starts a session for the connection, or closes it when there is no room.
func (s *Server) accept(conn net.Conn, remote netip.Addr, early *auth.Grant) {
	if !s.hold() {
		_ = conn.Close()
		return
	}
	s.begin(conn, remote, early)
}

// hold takes a connection's place; false when there is none.
func (s *Server) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.held >= s.o.MaxConnections {
		s.count.refused.Add(1)
		return false
	}
	s.held++
	return true
}

// begin runs a session on a connection whose place is held.
func (s *Server) begin(conn net.Conn, remote netip.Addr, early *auth.Grant) {
	c := newSession(s, conn, remote, early)
	s.mu.Lock()
	s.sessions[c] = struct{}{}
	stopping := s.stopping
	s.mu.Unlock()
	s.count.accepted.Add(1)
	if stopping {
		c.bye(packet.ServerShuttingDown, "")
	}
	go c.read() // release waits for it
}

// release gives a connection's place back.
func (s *Server) release(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	s.held--
	if s.stopping && s.held == 0 {
		close(s.drained)
	}
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Close closes the listeners, says DISCONNECT 0x8B to every client of 5.0, closes the others, publishes the
// wills that are due, and waits until all are gone. When ctx ends first it cuts the remaining ones
// and returns ctx's error.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping {
		s.stopping = true
		if s.held == 0 {
			close(s.drained)
		}
	}
	for l := range s.listeners {
		_ = l.Close() // Serve sees it
	}
	s.mu.Unlock()
	defer s.cancel()
	for _, c := range s.all() {
		c.bye(packet.ServerShuttingDown, "")
	}
	select {
	case <-s.drained:
		return s.wills.drain(ctx, s)
	case <-ctx.Done():
	}
	s.cancel()
	for _, c := range s.all() {
		c.cut()
	}
	select {
	case <-s.drained:
	case <-time.After(closeWait): // a call into the appliance ignores its context; do not hang on it
	}
	return context.Cause(ctx)
}

// Kick closes every session of the principal ("device/lamp1", "key/app") with 0x87 and returns how
// many there were. Call it when a credential is revoked or its owner removed.
func (s *Server) Kick(principal string) int {
	n := 0
	for _, c := range s.all() {
		if c.principal() == principal {
			c.bye(packet.NotAuthorized, "the credential was revoked")
			n++
		}
	}
	return n
}

// Recheck ends every session whose grant holds no more, with 0x87, and returns how long the next one
// holds. left says how long a grant holds; 0: not any more.
func (s *Server) Recheck(left func(*auth.Grant) time.Duration) time.Duration {
	next := auth.Forever
	for _, c := range s.all() {
		c.mu.Lock()
		g := c.grant
		c.mu.Unlock()
		if g == nil {
			continue
		}
		if d := left(g); d > 0 {
			next = min(next, d)
		} else {
			c.bye(packet.NotAuthorized, "the token has ended")
		}
	}
	return next
}

func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for c := range s.sessions {
		list = append(list, c)
	}
	return list
}

// claim makes c the one session of its client, and returns the one before it, which is still to be
// ended; nil when there is none.
func (s *Server) claim(key string, c *session) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.clients[key]
	s.clients[key] = c
	return old
}

func (s *Server) disclaim(key string, c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[key] == c {
		delete(s.clients, key)
	}
}

// counters run since the server was made.
type counters struct {
	accepted, refused          atomic.Int64
	welcomed                   atomic.Int64
	connected, most            atomic.Int64
	packetsIn, packetsOut      atomic.Int64
	bytesIn, bytesOut          atomic.Int64
	publishesIn, publishesOut  atomic.Int64
	dropped, tooLarge, refuses atomic.Int64
	slow, unknownAcks          atomic.Int64
	subscriptions              atomic.Int64
}

// Stats are counters of one server since it was made, and what it has now.
type Stats struct {
	Connections   int64 // now, those before their CONNECT included
	Accepted      int64 // connections, so far
	Welcomed      int64 // clients that were connected, so far
	Clients       int64 // connected now
	MostClients   int64 // connected at the same time
	Subscriptions int64 // filters of connected clients
	PacketsIn     int64
	PacketsOut    int64
	BytesIn       int64
	BytesOut      int64
	PublishesIn   int64
	PublishesOut  int64
	Dropped       int64 // volatile messages that a full queue did not take
	TooLarge      int64 // messages not sent because the client takes no packet of that size
	Refused       int64 // publishes refused, or acknowledged without effect in 3.1 and 3.1.1
	Slow          int64 // connections cut because the client did not read or say anything
	UnknownAcks   int64 // acks that named nothing
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.sessions)
	s.mu.Unlock()
	c := &s.count
	return Stats{
		Connections: int64(n), Accepted: c.accepted.Load(), Welcomed: c.welcomed.Load(), Clients: c.connected.Load(), MostClients: c.most.Load(), Subscriptions: c.subscriptions.Load(),
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		PublishesIn: c.publishesIn.Load(), PublishesOut: c.publishesOut.Load(), Dropped: c.dropped.Load(),
		TooLarge: c.tooLarge.Load(), Refused: c.refuses.Load(), Slow: c.slow.Load(), UnknownAcks: c.unknownAcks.Load(),
	}
}

// now is the time since the start, on the monotonic clock.
func (s *Server) now() int64 { return int64(min(time.Since(s.start), math.MaxInt64)) }

// request is the context of one call into the appliance on behalf of a client.
func (s *Server) request() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.o.RequestTimeout)
}

// addrOf takes the address of a peer; the zero Addr when it has none, as on a pipe.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
