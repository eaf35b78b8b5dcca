package packet

// Decode reads the body of a packet whose header was read by [ReadHeader]. v is the version that
// the connection's CONNECT named; for a CONNECT itself it does not matter, the packet's Version says
// what it asks for, also when Decode fails after reading it. The error is an [Error]; then the
// packet's other fields mean nothing.
func (p *Packet) Decode(v Version, t Type, flags byte, body []byte) error {
	return malformed("not implemented")
}

// FromClient checks what depends on the direction: types, reason codes and properties that only a
// server sends. A server calls it after [Packet.Decode].
func (p *Packet) FromClient(v Version) error { return nil }

// FromServer is the same for a client.
func (p *Packet) FromServer(v Version) error { return nil }
