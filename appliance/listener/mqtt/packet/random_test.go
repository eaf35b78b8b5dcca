package packet

import (
	"math/rand/v2"
	"strings"
)

// random makes packets that the specification allows. Every field that may be empty or zero but is present
// gets a value, because two of the three oracles cannot tell such a field from an absent one.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 0x6d717474))} }

func (r random) yes() bool { return r.IntN(2) == 0 }

func (r random) id() uint16 { return uint16(1 + r.IntN(0xffff)) }

func (r random) bytes() []byte {
	n := 1 + r.IntN(12)
	if r.IntN(40) == 0 {
		n = 100 + r.IntN(200)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return b
}

func (r random) text() []byte {
	letters := []rune("abcXYZ019 -_.äß€丂\U0001f600\ufeff\u0001\u007f\ufffd")
	var s strings.Builder
	for range 1 + r.IntN(8) {
		s.WriteRune(letters[r.IntN(len(letters))])
	}
	return []byte(s.String())
}

func (r random) topic() []byte {
	levels := []string{"a", "lamp", "", "$SYS", "ä", "0 1"}
	t := make([]string, 1+r.IntN(4))
	for i := range t {
		t[i] = levels[r.IntN(len(levels))]
	}
	if s := strings.Join(t, "/"); s != "" {
		return []byte(s)
	}
	return []byte("/")
}

func (r random) filter() []byte {
	levels := strings.Split(string(r.topic()), "/")
	for i := range levels {
		if r.IntN(3) == 0 {
			levels[i] = "+"
		}
	}
	f := strings.Join(levels, "/")
	if r.IntN(3) == 0 {
		f += "/#"
	}
	if r.IntN(4) == 0 {
		f = "$share/group/" + f
	}
	return []byte(f)
}

func (r random) code(t Type) byte {
	codes := map[Type][]byte{
		CONNACK:    {Success, NotAuthorized, QuotaExceeded, ConnectionRateExceeded},
		PUBACK:     {Success, NoMatchingSubscribers, QuotaExceeded},
		PUBREC:     {Success, NotAuthorized, PayloadFormatInvalid},
		PUBREL:     {Success, PacketIdentifierNotFound},
		PUBCOMP:    {Success, PacketIdentifierNotFound},
		SUBACK:     {GrantedQoS0, GrantedQoS1, GrantedQoS2, NotAuthorized, WildcardSubscriptionsNotSupported},
		UNSUBACK:   {Success, NoSubscriptionExisted, NotAuthorized},
		DISCONNECT: {Success, DisconnectWithWillMessage, SessionTakenOver, MaximumConnectTime},
		AUTH:       {ContinueAuthentication, ReAuthenticate},
	}[t]
	return codes[r.IntN(len(codes))]
}

// properties are those that may stand in a packet, or a will, each by the toss of a coin.
func (r random) properties(t Type) (p Properties) {
	for id := PropertyID(1); id <= PropSharedAvailable; id++ {
		if !allowed(t).has(id) || r.yes() {
			continue
		}
		p.Mark(id)
		switch id {
		case PropUser:
			for range 1 + r.IntN(3) {
				p.User = append(p.User, UserProperty{r.text(), r.text()})
			}
		case PropSubscriptionID:
			p.SubscriptionIDs = []uint32{1 + r.Uint32N(MaxBody)}
			for t == PUBLISH && r.yes() {
				p.SubscriptionIDs = append(p.SubscriptionIDs, 1+r.Uint32N(MaxBody))
			}
		case PropResponseTopic:
			p.ResponseTopic = r.topic()
		case PropPayloadFormat, PropMaximumQoS:
			*p.byteField(id) = 1
		default:
			r.field(&p, id)
		}
	}
	if !p.Has(PropAuthMethod) {
		p.Unmark(PropAuthData)
		p.AuthData = nil
	}
	return p
}

func (r random) field(p *Properties, id PropertyID) {
	if f := p.stringField(id); f != nil {
		*f = r.text()
	} else if f := p.uint32Field(id); f != nil {
		*f = 1 + r.Uint32N(1<<32-1)
	} else if f := p.uint16Field(id); f != nil {
		*f = r.id()
	} else if f := p.binaryField(id); f != nil {
		*f = r.bytes()
	} else if f := p.boolField(id); f != nil {
		*f = true
	}
}

func (r random) packet(v Version) (p Packet) {
	p.Type = CONNECT + Type(r.IntN(int(AUTH)))
	if p.Type == AUTH && v != V5 {
		p.Type = PUBLISH
	}
	if v == V5 && p.Type != PINGREQ && p.Type != PINGRESP {
		p.Props = r.properties(p.Type)
	}
	switch p.Type {
	case CONNECT:
		r.connect(&p, v)
	case CONNACK:
		if p.SessionPresent = r.yes() && v != V31; !p.SessionPresent {
			p.Code = byte(r.IntN(6))
			if v == V5 {
				p.Code = r.code(CONNACK)
			}
		}
	case PUBLISH:
		p.Topic, p.Retain, p.QoS = r.topic(), r.yes(), byte(r.IntN(3))
		if p.QoS > 0 {
			p.ID, p.Dup = r.id(), r.yes()
		}
		if r.IntN(8) > 0 {
			p.Payload = r.bytes()
		}
		if p.Props.Has(PropTopicAlias) && r.yes() {
			p.Topic = nil
		}
	case SUBSCRIBE, UNSUBSCRIBE:
		p.ID = r.id()
		for range 1 + r.IntN(4) {
			p.Filters = append(p.Filters, r.subscription(p.Type, v))
		}
	case SUBACK, UNSUBACK:
		r.codes(&p, v)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		if p.ID = r.id(); v == V5 {
			p.Code = r.code(p.Type)
		}
	case DISCONNECT, AUTH:
		if v == V5 {
			p.Code = r.code(p.Type)
		}
		if p.Type == AUTH && !p.Props.Has(PropAuthMethod) {
			p.Props.Mark(PropAuthMethod)
			p.Props.AuthMethod = r.text()
		}
	default: // pings are empty
	}
	return p
}

func (r random) codes(p *Packet, v Version) {
	p.ID = r.id()
	for range 1 + r.IntN(4) {
		switch {
		case v == V5:
			p.Codes = append(p.Codes, r.code(p.Type))
		case p.Type == SUBACK:
			p.Codes = append(p.Codes, []byte{0, 1, 2, 0x80}[r.IntN(4)])
		}
	}
}

func (r random) subscription(t Type, v Version) Subscription {
	s := Subscription{Filter: r.filter()}
	if t == UNSUBSCRIBE {
		return s
	}
	s.QoS = byte(r.IntN(3))
	if v == V5 {
		_, _, shared := SplitShare(s.Filter)
		s.NoLocal, s.RetainAsPublished, s.RetainHandling = r.yes() && !shared, r.yes(), byte(r.IntN(3))
	}
	return s
}

func (r random) connect(p *Packet, v Version) {
	p.Version, p.ProtocolName, p.CleanStart, p.KeepAlive, p.ClientID = v, []byte(nameMQTT), r.yes(), r.id(), r.text()
	if v == V31 {
		p.ProtocolName = []byte(nameMQIsdp)
	}
	if r.yes() {
		p.HasUsername, p.Username = true, r.text()
	}
	if r.yes() && (p.HasUsername || v == V5) {
		p.HasPassword, p.Password = true, r.bytes()
	}
	if r.yes() {
		p.Will = &Will{Retain: r.yes(), QoS: byte(r.IntN(3)), Topic: r.topic(), Payload: r.bytes()}
		if v == V5 {
			p.Will.Props = r.properties(will)
		}
	}
}
