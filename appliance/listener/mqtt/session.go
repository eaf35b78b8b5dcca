package mqtt

import (
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/listener/quiet"
	"edgepost/appliance/message"
)

const (
	maxReplies   = 64 << 10               // bytes of answers waiting to be written; then the client is not read
	closeWait    = 2 * time.Second        // for the client's end of a connection that is over
	lingerBytes  = 1 << 20                // read and thrown away meanwhile
	respawnEvery = 100 * time.Millisecond // see session.respawn
	respawnBurst = 16
)

// phase is how far a connection has come.
type phase uint8

const (
	fresh   phase = iota // waits for its CONNECT
	open                 // CONNACK 0 was sent
	leaving              // the client has said DISCONNECT
)

// session is one connection, and while it lasts the client's session.
//
// Invariants, under mu: queued is what the messages in out and in the writer's hands cost; inflight
// counts deliveries with a sequence number that are not settled: queued, being noted, or in flights;
// refused is the number of links whose refused is set; once closing, no message is queued. An id is
// in flights at most once.
type session struct {
	srv    *Server
	conn   net.Conn
	remote netip.Addr
	early  *auth.Grant // what the upgrade request itself proved; nil when nothing

	// Fixed by CONNECT; written under mu, read by the reader and, once open, by everyone.
	phase   phase
	v       packet.Version
	durable bool // the session outlives the connection
	problem bool // the client wants reason strings
	told    bool // its keep-alive was replaced by ours
	method  method
	aliases uint16      // topic aliases that it allows us
	grant   *auth.Grant // the reader replaces it when the client sends a new token
	client  string
	key     string
	expiry  time.Duration // of the session; 0: it ends with the connection
	alive   time.Duration // one and a half times the keep-alive; 0: none
	most    int           // bytes of a packet that the client takes
	window  int           // unacknowledged messages that it gets

	// Owned by the reader.
	in       quiet.Input
	shorter  bool     // DISCONNECT changed expiry
	named    []string // the client's topic aliases, from 1 on; nil until the first
	will     *will    // nil: none, or the client took it back
	lastRead int64    // when the newest packet came, on Server.now
	respawns int64    // when the respawns so far are paid for, on Server.now

	mu        sync.Mutex
	wake      sync.Cond // the reader waits here: for room, and at the end for the writer
	subs      *filters  // replaced, never changed
	links     []*link
	ctrl      []byte // answers and acks, encoded; they go before messages
	out       *queue
	queued    int
	inflight  int
	refused   int
	flights   []flight // in the order of their first transmission on this connection
	kept      map[place]keptID
	finished  []finished
	finishing int64 // when the oldest of finished came, on Server.now
	lastID    uint16
	notes     noteRoom
	owed      owed
	settled   []settled // to be acknowledged to the courier by the writer
	aliased   map[string]uint16
	ended     chan struct{} // made by whoever waits for the end

	held    bool   // messages wait until an answer is written
	writing bool   // a writer goroutine exists; it alone writes
	closing bool   // nothing more is accepted; what is in ctrl ends it
	why     string // then: the reason, for people
	gone    bool   // the connection is of no use any more
	over    bool   // end has run
}

func newSession(srv *Server, conn net.Conn, remote netip.Addr, early *auth.Grant) *session {
	s := &session{
		srv: srv, conn: conn, remote: remote, early: early, held: true, subs: srv.none, most: math.MaxInt,
		in: quiet.New(conn, srv.pools.input),
	}
	s.wake.L = &s.mu
	_ = conn.SetReadDeadline(time.Now().Add(srv.o.ConnectTimeout)) // an error shows at the next read
	return s
}

// read is the connection's goroutine. It has no other frames than the wait for input, so that the
// wait fits into the smallest stack: see respawn. Whichever goroutine is the reader last calls end.
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
	ok := true
	if len(s.in.Bytes()) > 0 {
		ok = s.packets()
	}
	if ok && err != nil {
		s.readFailed(err)
		ok = false
	}
	if !ok {
		s.end()
		return false
	}
	s.settleAcks()
	if s.in.Held() {
		return true
	}
	return !s.respawn()
}

// respawn hands the reading over to a new goroutine: handling a packet has grown this one's stack, and
// the garbage collector does not take it back to the smallest size. There are at most respawnBurst
// at once and one per respawnEvery in the long run.
func (s *session) respawn() bool {
	now := s.srv.now()
	due := max(s.respawns, now)
	if due-now > int64(respawnBurst*respawnEvery) {
		return false
	}
	s.respawns = due + int64(respawnEvery)
	go s.read() // end waits for it
	return true
}

// packets handles all packets that are complete.
func (s *session) packets() bool {
	p := s.srv.pools.packets.Get().(*packet.Packet)
	defer s.srv.pools.putPacket(p)
	input := s.in.Bytes()
	at, n, need, ok := 0, 0, 0, true
	for ok && at < len(input) {
		b := input[at:]
		t, flags, body, head, err := packet.ReadHeader(b)
		if errors.Is(err, packet.ErrShort) {
			break
		}
		if err == nil {
			err = s.checkHeader(t, body, head)
		}
		if err != nil {
			ok = s.offence(err)
			break
		}
		if len(b) < head+body {
			need = head + body
			break
		}
		if !s.room() {
			ok = false
			break
		}
		ok = s.handle(p, t, flags, b[head:head+body])
		at += head + body
		n++
	}
	s.srv.count.packetsIn.Add(int64(n))
	s.srv.count.bytesIn.Add(int64(at))
	if !ok {
		s.in.Drop()
		return false
	}
	s.in.Took(at, need)
	if n > 0 {
		s.heard()
	}
	return true
}

// heard moves the deadline: one and a half times the keep-alive from the newest packet
// [MQTT-3.1.2-22]. A part of a packet is no sign of life, and the time that we did not read does not
// count.
func (s *session) heard() {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if s.phase != open || closing {
		return
	}
	var at time.Time // zero: no deadline
	if s.alive > 0 {
		at = time.Now().Add(s.alive)
	}
	_ = s.conn.SetReadDeadline(at) // an error shows at the next read
}

// checkHeader looks at a packet before its body is read.
func (s *session) checkHeader(t packet.Type, body, head int) error {
	if s.phase == fresh {
		switch {
		case t != packet.CONNECT: // [MQTT-3.1.0-1]
			return &packet.Error{Code: packet.ProtocolError, Detail: "the first packet is no CONNECT"}
		case body > s.srv.o.ConnectMax:
			return &packet.Error{Code: packet.PacketTooLarge, Detail: "the CONNECT is too large"}
		}
		return nil
	}
	if err := packet.CheckLength(s.v, body, head); err != nil {
		return err
	}
	if head+body > s.srv.o.MaxPacket { // [MQTT-3.2.2-15]
		return &packet.Error{Code: packet.PacketTooLarge, Detail: "the packet is too large"}
	}
	return nil
}

// handle acts on one packet; false: the session is over.
func (s *session) handle(p *packet.Packet, t packet.Type, flags byte, body []byte) bool {
	if t == packet.CONNECT && s.phase != fresh { // [MQTT-3.1.0-2]
		return s.bye(packet.ProtocolError, "")
	}
	err := p.Decode(s.v, t, flags, body)
	if s.phase == fresh {
		return s.connect(p, err)
	}
	if err == nil {
		err = p.FromClient(s.v)
	}
	if err != nil {
		return s.offence(err)
	}
	switch t {
	case packet.PUBLISH:
		return s.publish(p)
	case packet.PUBACK:
		return s.puback(p)
	case packet.PUBREC:
		return s.pubrec(p)
	case packet.PUBREL:
		return s.pubrel(p)
	case packet.PUBCOMP:
		return s.pubcomp(p)
	case packet.SUBSCRIBE:
		return s.subscribe(p)
	case packet.UNSUBSCRIBE:
		return s.unsubscribe(p)
	case packet.PINGREQ: // [MQTT-3.12.4-1]
		s.reply([]byte{byte(packet.PINGRESP) << 4, 0})
		return true
	case packet.DISCONNECT:
		return s.disconnected(p)
	case packet.AUTH:
		return s.reauthenticate(p)
	default: // what only a server sends
		return s.bye(packet.ProtocolError, "")
	}
}

// offence ends the session with the reason code that the error carries.
func (s *session) offence(err error) bool {
	e, ok := errors.AsType[*packet.Error](err)
	if !ok {
		e = &packet.Error{Code: packet.UnspecifiedError}
	}
	s.srv.o.Log.Debug("MQTT protocol error", "client", s.client, "remote", s.remote, "error", err)
	return s.bye(e.Code, "")
}

// room waits until the client may be served: it reads its answers, and not too many publishes are
// on their way to the disk. False: the session is over.
func (s *session) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.srv.o
	for !s.closing && (len(s.ctrl) > maxReplies || s.owed.pubs >= o.MaxPubsInFlight || s.owed.bytes > o.MaxPubBytes) {
		s.wake.Wait()
	}
	return !s.closing
}

// disconnected acts on the client's DISCONNECT (5.0 §3.14).
func (s *session) disconnected(p *packet.Packet) bool {
	if s.v == packet.V5 && p.Props.Has(packet.PropSessionExpiry) {
		if s.expiry == 0 && p.Props.SessionExpiry != 0 { // 5.0 §3.14.2.2.2
			return s.bye(packet.ProtocolError, "the session expiry was 0 and cannot be changed")
		}
		s.setExpiry(p.Props.SessionExpiry)
		s.shorter = true
	}
	if p.Code == packet.NormalDisconnection || s.v != packet.V5 {
		s.renounce() // [MQTT-3.14.4-3]
	}
	s.mu.Lock()
	s.phase, s.why = leaving, courier.Goodbye
	s.closeLocked()
	s.mu.Unlock()
	return false
}

func (s *session) principal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grant == nil {
		return ""
	}
	return s.grant.Principal()
}

// readFailed says goodbye where somebody may still hear it.
func (s *session) readFailed(err error) {
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		return
	}
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return
	}
	s.srv.count.slow.Add(1)
	if s.phase == open {
		s.bye(packet.KeepAliveTimeout, "")
	}
}

// keepShorter tells the courier the session expiry that came with the DISCONNECT.
func (s *session) keepShorter() {
	ctx, cancel := s.srv.request()
	defer cancel()
	if err := s.srv.o.Sessions.ChangeSession(ctx, s.grant, s.spec(), nil); err != nil {
		s.srv.o.Log.Error("an MQTT session keeps its old expiry", "client", s.client, "error", err)
	}
}

// wait returns when the session has ended, cutting its connection when it takes too long.
func (s *session) wait() {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	if s.ended == nil {
		s.ended = make(chan struct{})
	}
	ended := s.ended
	s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(closeWait)) // a dead connection takes no farewell
	timer := time.NewTimer(closeWait + time.Second)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	s.cut()
	<-ended // its last calls into the appliance have a time limit
}

// linger lets the client read what was said last: closing a TCP connection with unread input resets
// it and may take what was sent with it.
func (s *session) linger() {
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	conn := s.conn
	if w, ok := conn.(*webConn); ok {
		conn = w.ws.NetConn()
	}
	_ = conn.SetReadDeadline(time.Now().Add(closeWait))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, lingerBytes))
}

// cut ends the connection without a word.
func (s *session) cut() {
	s.mu.Lock()
	s.gone = true
	s.closeLocked()
	s.mu.Unlock()
	_ = s.conn.Close()
}

// fail logs what nobody outside can act on, and turns any error into a Problem.
func (s *session) problemOf(err error, doing string) *message.Problem {
	if p := message.ProblemOf(err); p != nil {
		return p
	}
	s.srv.o.Log.Error("MQTT request failed", "doing", doing, "client", s.client, "error", err)
	return message.Problemf(codeInternal, "the appliance failed to %s; its log says why", doing)
}
