package packet

// The bits of the connect flags (5.0 §3.1.2.3).
const (
	flagReserved   = 0x01
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// The protocol names [MQTT-3.1.2-1].
const (
	nameMQTT   = "MQTT"
	nameMQIsdp = "MQIsdp" // 3.1
)

// decodeConnect: 5.0 §3.1, 3.1.1 §3.1. It reads the version first, so that the caller can answer in it.
func (p *Packet) decodeConnect(flags byte, body []byte) error {
	r := reader{b: body}
	p.ProtocolName = r.string("protocol name")
	level := Version(r.byte("protocol version"))
	if r.err != nil {
		return r.err
	}
	p.Version = level
	if !level.named(string(p.ProtocolName)) { // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
		return &Error{UnsupportedProtocolVersion, "protocol name and version are not those of MQTT 3.1, 3.1.1 or 5.0"}
	}
	if err := checkFlags(level, CONNECT, flags); err != nil {
		return err
	}
	connect := r.byte("connect flags")
	p.CleanStart = connect&flagCleanStart != 0
	p.KeepAlive = r.uint16("keep alive")
	if r.err == nil {
		if err := checkConnectFlags(level, connect); err != nil {
			return err
		}
	}
	if level == V5 {
		r.readProperties(&p.Props, CONNECT)
		if r.err == nil && p.Props.Has(PropAuthData) && !p.Props.Has(PropAuthMethod) { // §3.1.2.11.10
			r.fail(protocol("authentication data without an authentication method"))
		}
	}
	p.decodeConnectPayload(&r, level, connect)
	if err := r.end(CONNECT); err != nil { // [MQTT-3.1.2-16], [MQTT-3.1.2-18]: nothing that no flag announced
		return err
	}
	return p.checkClientID(level)
}

// named reports whether the version goes by the name.
func (v Version) named(name string) bool {
	switch v {
	case V31:
		return name == nameMQIsdp
	case V311, V5:
		return name == nameMQTT
	default:
		return false
	}
}

func checkConnectFlags(v Version, connect byte) error {
	qos := connect >> 3 & 3
	switch {
	case connect&flagReserved != 0 && v != V31: // 3.1 does not use it
		return malformed("reserved connect flag is not 0") // [MQTT-3.1.2-3]
	case qos == 3:
		return malformed("will QoS is 3") // [MQTT-3.1.2-12]; 3.1.1: [MQTT-3.1.2-14]
	case connect&flagWill == 0 && (qos != 0 || connect&flagWillRetain != 0):
		return protocol("will QoS or will retain without a will") // [MQTT-3.1.2-11], [MQTT-3.1.2-13]; 3.1.1: [MQTT-3.1.2-13], [MQTT-3.1.2-15]
	case connect&flagUsername == 0 && connect&flagPassword != 0 && v != V5:
		return protocol("password without a user name") // 3.1.1: [MQTT-3.1.2-22]
	}
	return nil
}

// decodeConnectPayload reads the fields in their one order [MQTT-3.1.3-1].
func (p *Packet) decodeConnectPayload(r *reader, v Version, connect byte) {
	p.ClientID = r.string("client identifier") // [MQTT-3.1.3-3], [MQTT-3.1.3-4]
	if connect&flagWill != 0 {                 // [MQTT-3.1.2-9]
		w := &Will{Retain: connect&flagWillRetain != 0, QoS: connect >> 3 & 3}
		if v == V5 {
			r.readProperties(&w.Props, will)
		}
		w.Topic = r.binary("will topic")
		if r.err == nil {
			if err := checkName(w.Topic, "will topic"); err != nil { // [MQTT-3.1.3-11]; 3.1.1: [MQTT-3.1.3-10]
				r.fail(err)
			}
		}
		w.Payload = r.binary("will payload")
		p.Will = w
	}
	if v == V31 && r.err == nil && len(r.b) == 0 {
		return // 3.1 §3.1: the remaining length takes precedence over the user name flag
	}
	if connect&flagUsername != 0 { // [MQTT-3.1.2-17], [MQTT-3.1.3-12]; 3.1.1: [MQTT-3.1.2-19], [MQTT-3.1.3-11]
		p.Username, p.HasUsername = r.string("user name"), true
	}
	if v == V31 && r.err == nil && len(r.b) == 0 {
		return
	}
	if connect&flagPassword != 0 { // [MQTT-3.1.2-19]; 3.1.1: [MQTT-3.1.2-21]
		p.Password, p.HasPassword = r.binary("password"), true
	}
}

// checkClientID: before 5.0 an empty identifier lives for one connection only, and 3.1 has none. An identifier
// of more than 3.1's 23 bytes is taken from everybody [MQTT-3.1.3-5].
func (p *Packet) checkClientID(v Version) error {
	if len(p.ClientID) == 0 && (v == V31 || v == V311 && !p.CleanStart) {
		return &Error{ClientIdentifierNotValid, "client identifier is empty"} // 3.1.1: [MQTT-3.1.3-7], [MQTT-3.1.3-8]
	}
	return nil
}

// writeConnect writes a client's first packet in the version it asks for.
func (p *Packet) writeConnect(w *writer) {
	v := p.Version
	name := []byte(nameMQTT)
	if v == V31 {
		name = []byte(nameMQIsdp)
	}
	if !v.named(string(name)) {
		w.fail(&Error{UnsupportedProtocolVersion, "protocol version is not 3, 4 or 5"})
		return
	}
	flags := p.connectFlags()
	if err := checkConnectFlags(v, flags); err != nil {
		w.fail(err)
	}
	if err := p.checkClientID(v); err != nil {
		w.fail(err)
	}
	w.string(name, "protocol name")
	w.byte(byte(v))
	w.byte(flags)
	w.uint16(p.KeepAlive)
	if v == V5 {
		if p.Props.Has(PropAuthData) && !p.Props.Has(PropAuthMethod) {
			w.fail(protocol("authentication data without an authentication method"))
		}
		w.properties(&p.Props, CONNECT)
	}
	w.string(p.ClientID, "client identifier")
	if m := p.Will; m != nil {
		if v == V5 {
			w.properties(&m.Props, will)
		}
		if err := checkName(m.Topic, "will topic"); err != nil {
			w.fail(err)
		}
		w.binary(m.Topic, "will topic")
		w.binary(m.Payload, "will payload")
	}
	if p.HasUsername {
		w.string(p.Username, "user name")
	}
	if p.HasPassword {
		w.binary(p.Password, "password")
	}
}

func (p *Packet) connectFlags() (flags byte) {
	for _, f := range []struct {
		on  bool
		bit byte
	}{
		{p.CleanStart, flagCleanStart},
		{p.Will != nil, flagWill},
		{p.Will != nil && p.Will.Retain, flagWillRetain},
		{p.HasPassword, flagPassword},
		{p.HasUsername, flagUsername},
	} {
		if f.on {
			flags |= f.bit
		}
	}
	if p.Will != nil {
		flags |= min(p.Will.QoS, 3) << 3
	}
	return flags
}
