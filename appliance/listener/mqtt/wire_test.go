package mqtt

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/listener/mqtt/packet"
)

// pipeListener hands out the server ends of net.Pipe, so that a whole server runs inside a
// testing/synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// wire is a client that can also break the rules: it writes any bytes and keeps what it reads.
type wire struct {
	conn net.Conn
	v    packet.Version

	mu     sync.Mutex
	buf    []byte
	lines  []string // packets that were read, as text
	err    error
	paused chan struct{} // not nil: the reader waits until it is closed
}

// listen collects packets until the connection ends.
func (w *wire) listen() {
	b := make([]byte, 4096)
	for {
		w.mu.Lock()
		paused := w.paused
		w.mu.Unlock()
		if paused != nil {
			<-paused
		}
		n, err := w.conn.Read(b)
		w.mu.Lock()
		w.buf = append(w.buf, b[:n]...)
		for w.err == nil && w.split() {
		}
		if err != nil && w.err == nil {
			w.err = err
		}
		stop := w.err != nil
		w.mu.Unlock()
		if stop {
			return
		}
	}
}

// split takes one packet off buf.
func (w *wire) split() bool {
	t, flags, body, head, err := packet.ReadHeader(w.buf)
	if errors.Is(err, packet.ErrShort) || err == nil && len(w.buf) < head+body {
		return false
	}
	var p packet.Packet
	if err == nil {
		err = p.Decode(w.v, t, flags, w.buf[head:head+body])
	}
	if err == nil {
		err = p.FromServer(w.v)
	}
	if err != nil {
		w.err = fmt.Errorf("server sent % x: %w", w.buf, err)
		return false
	}
	w.lines = append(w.lines, show(&p, w.v))
	w.buf = w.buf[head+body:]
	return true
}

func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lines
	w.lines = nil
	return l
}

// ended returns why reading ended; nil while it goes on.
func (w *wire) ended() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *wire) pause(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.paused = make(chan struct{})
	} else if w.paused != nil {
		close(w.paused)
		w.paused = nil
	}
}

func (w *wire) raw(b []byte) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := w.conn.Write(b)
	return err
}

// show is a packet as one line of text.
func show(p *packet.Packet, v packet.Version) string {
	l := []string{strings.ToLower(p.Type.String())}
	add := func(format string, args ...any) { l = append(l, fmt.Sprintf(format, args...)) }
	switch p.Type {
	case packet.CONNACK:
		if p.SessionPresent {
			add("present")
		}
		add("code=%02x", p.Code)
	case packet.PUBLISH:
		add("t=%s", p.Topic)
		add("q=%d", p.QoS)
		if p.QoS > 0 {
			add("id=%d", p.ID)
		}
		if p.Dup {
			add("dup")
		}
		if p.Retain {
			add("retain")
		}
		if len(p.Payload) > 64 {
			add("p=%d_bytes", len(p.Payload))
		} else {
			add("p=%s", p.Payload)
		}
	case packet.PUBACK, packet.PUBREC, packet.PUBREL, packet.PUBCOMP:
		add("id=%d", p.ID)
		if p.Code != 0 {
			add("code=%02x", p.Code)
		}
	case packet.SUBACK, packet.UNSUBACK:
		add("id=%d", p.ID)
		if len(p.Codes) > 32 {
			add("codes=%d_codes", len(p.Codes))
		} else if len(p.Codes) > 0 {
			add("codes=%s", hex.EncodeToString(p.Codes))
		}
	case packet.DISCONNECT, packet.AUTH:
		add("code=%02x", p.Code)
	case packet.CONNECT, packet.SUBSCRIBE, packet.UNSUBSCRIBE, packet.PINGREQ, packet.PINGRESP:
	}
	if v == packet.V5 {
		l = append(l, showProps(&p.Props)...)
	}
	return strings.Join(l, " ")
}

func showProps(p *packet.Properties) (l []string) {
	add := func(id packet.PropertyID, format string, args ...any) {
		if p.Has(id) {
			l = append(l, strings.ReplaceAll(fmt.Sprintf(format, args...), " ", "_"))
		}
	}
	if p.TopicAliasMaximum == 10 && p.MaximumPacketSize == 2_000_000 && p.ReceiveMaximum == 20 {
		l = append(l, "std")
	} else {
		add(packet.PropTopicAliasMaximum, "tam=%d", p.TopicAliasMaximum)
		add(packet.PropMaximumPacketSize, "mps=%d", p.MaximumPacketSize)
		add(packet.PropReceiveMaximum, "rm=%d", p.ReceiveMaximum)
	}
	add(packet.PropServerKeepAlive, "ska=%d", p.ServerKeepAlive)
	add(packet.PropSessionExpiry, "sx=%d", p.SessionExpiry)
	add(packet.PropAssignedClientID, "assigned=%s", p.AssignedClientID)
	add(packet.PropMessageExpiry, "mx=%d", p.MessageExpiry)
	add(packet.PropTopicAlias, "alias=%d", p.TopicAlias)
	add(packet.PropPayloadFormat, "pf=%d", p.PayloadFormat)
	add(packet.PropContentType, "ct=%s", p.ContentType)
	add(packet.PropResponseTopic, "rt=%s", p.ResponseTopic)
	add(packet.PropCorrelationData, "cd=%s", p.CorrelationData)
	add(packet.PropAuthMethod, "am=%s", p.AuthMethod)
	for _, id := range p.SubscriptionIDs {
		l = append(l, fmt.Sprintf("sid=%d", id))
	}
	for _, u := range p.User {
		l = append(l, fmt.Sprintf("u.%s=%s", u.Key, u.Value))
	}
	add(packet.PropReasonString, "reason=%s", p.ReasonString)
	return l
}

// build makes a client's packet from a line of text, in the same words that show uses.
func build(line string, v packet.Version) ([]byte, error) {
	words := strings.Fields(line)
	types := map[string]packet.Type{
		"connect": packet.CONNECT, "publish": packet.PUBLISH, "puback": packet.PUBACK, "pubrec": packet.PUBREC, "pubrel": packet.PUBREL,
		"pubcomp": packet.PUBCOMP, "subscribe": packet.SUBSCRIBE, "unsubscribe": packet.UNSUBSCRIBE, "pingreq": packet.PINGREQ,
		"disconnect": packet.DISCONNECT, "auth": packet.AUTH, "connack": packet.CONNACK,
	}
	p := packet.Packet{Type: types[words[0]]}
	if p.Type == packet.CONNECT {
		p.ProtocolName, p.Version = []byte("MQTT"), v
		if v == packet.V31 {
			p.ProtocolName = []byte("MQIsdp")
		}
	}
	if p.Type == 0 {
		return nil, fmt.Errorf("no packet type %s", words[0])
	}
	for _, w := range words[1:] {
		k, val, _ := strings.Cut(w, "=")
		if err := field(&p, k, expand(val)); err != nil {
			return nil, err
		}
	}
	return p.Append(nil, v)
}

func field(p *packet.Packet, k, val string) error {
	n, _ := strconv.Atoi(val)
	props := &p.Props
	if rest, ok := strings.CutPrefix(k, "will."); ok {
		if p.Will == nil {
			p.Will = &packet.Will{}
		}
		switch rest {
		case "t":
			p.Will.Topic = []byte(val)
		case "p":
			p.Will.Payload = []byte(val)
		case "q":
			p.Will.QoS = byte(n)
		case "retain":
			p.Will.Retain = true
		default:
			return prop(&p.Will.Props, rest, val, n)
		}
		return nil
	}
	switch k {
	case "v", "code", "id", "q", "ka":
		return number(p, k, val, n)
	case "clean":
		p.CleanStart = true
	case "user":
		p.Username, p.HasUsername = []byte(val), true
	case "pass":
		p.Password, p.HasPassword = []byte(val), true
	case "t":
		p.Topic = []byte(val)
	case "p":
		p.Payload = []byte(val)
	case "dup":
		p.Dup = true
	case "retain":
		p.Retain = true
	case "f": // f=a/b:1:nl:rap:rh2
		parts := strings.Split(val, ":")
		s := packet.Subscription{Filter: []byte(parts[0])}
		for _, o := range parts[1:] {
			switch o {
			case "0", "1", "2":
				s.QoS = o[0] - '0'
			case "nl":
				s.NoLocal = true
			case "rap":
				s.RetainAsPublished = true
			case "rh1", "rh2":
				s.RetainHandling = o[2] - '0'
			}
		}
		p.Filters = append(p.Filters, s)
	default:
		return prop(props, k, val, n)
	}
	return nil
}

func number(p *packet.Packet, k, val string, n int) error {
	switch k {
	case "v":
		p.Version = packet.Version(n)
	case "code":
		c, err := strconv.ParseUint(val, 16, 8)
		p.Code = byte(c)
		return err
	case "id":
		if p.Type == packet.CONNECT {
			p.ClientID = []byte(val)
		} else {
			p.ID = uint16(n)
		}
	case "q":
		p.QoS = byte(n)
	case "ka":
		p.KeepAlive = uint16(n)
	}
	return nil
}

func prop(p *packet.Properties, k, val string, n int) error {
	if key, ok := strings.CutPrefix(k, "u."); ok {
		p.User = append(p.User, packet.UserProperty{Key: []byte(key), Value: []byte(val)})
		return nil
	}
	var id packet.PropertyID
	switch k {
	case "sid":
		p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(n))
		return nil
	case "sx":
		u, err := strconv.ParseUint(val, 10, 32)
		if err != nil {
			return err
		}
		id, p.SessionExpiry = packet.PropSessionExpiry, uint32(u)
	case "mx":
		id, p.MessageExpiry = packet.PropMessageExpiry, uint32(n)
	case "wd":
		id, p.WillDelay = packet.PropWillDelay, uint32(n)
	case "mps":
		id, p.MaximumPacketSize = packet.PropMaximumPacketSize, uint32(n)
	case "rm":
		id, p.ReceiveMaximum = packet.PropReceiveMaximum, uint16(n)
	case "tam":
		id, p.TopicAliasMaximum = packet.PropTopicAliasMaximum, uint16(n)
	case "alias":
		id, p.TopicAlias = packet.PropTopicAlias, uint16(n)
	case "rpi":
		id, p.RequestProblemInfo = packet.PropRequestProblemInfo, n == 1
	case "pf":
		id, p.PayloadFormat = packet.PropPayloadFormat, byte(n)
	case "ct":
		id, p.ContentType = packet.PropContentType, []byte(val)
	case "rt":
		id, p.ResponseTopic = packet.PropResponseTopic, []byte(val)
	case "cd":
		id, p.CorrelationData = packet.PropCorrelationData, []byte(val)
	case "am":
		id, p.AuthMethod = packet.PropAuthMethod, []byte(val)
	case "ad":
		id, p.AuthData = packet.PropAuthData, []byte(val)
	default:
		return fmt.Errorf("no field %s", k)
	}
	p.Mark(id)
	return nil
}

// expand replaces REPEAT(x,n).
func expand(s string) string {
	for {
		before, rest, ok := strings.Cut(s, "REPEAT(")
		if !ok {
			return s
		}
		args, after, _ := strings.Cut(rest, ")")
		i := strings.LastIndexByte(args, ',')
		n, _ := strconv.Atoi(args[i+1:])
		s = before + strings.Repeat(args[:i], n) + after
	}
}

// matchLine compares word by word; a wanted word that ends with * needs only its beginning, and ...
// at the end stands for any number of words.
func matchLine(want, got string) bool {
	w, g := strings.Fields(want), strings.Fields(got)
	if n := len(w) - 1; n >= 0 && w[n] == "..." && n <= len(g) {
		w, g = w[:n], g[:n]
	}
	if len(w) != len(g) {
		return false
	}
	for i := range w {
		if head, ok := strings.CutSuffix(w[i], "*"); ok && strings.HasPrefix(g[i], head) {
			continue
		}
		if w[i] != g[i] {
			return false
		}
	}
	return true
}
