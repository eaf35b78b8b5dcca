package packet

// Append writes the packet in the form of version v behind dst and returns the longer slice. A CONNECT is
// written in its own Version. The error is an [Error] that says which field the specification
// does not allow; then dst is returned as it was.
func (p *Packet) Append(dst []byte, v Version) ([]byte, error) {
	return dst, malformed("not implemented")
}

// AppendAck writes a PUBACK, PUBREC, PUBREL or PUBCOMP without properties. Before 5.0 there is no
// reason code. id must not be 0.
func AppendAck(dst []byte, v Version, t Type, id uint16, code byte) []byte { return dst }
