package seal

import "fmt"

const (
	binaryVersion = 1
	binaryHeader  = 1 + idBytes
	binaryExtra   = binaryHeader + nonceBytes + tagBytes
)

func (b *Box) sealBinary(topic string, c Content) []byte {
	out := make([]byte, 0, binaryExtra+len(c.Payload))
	out = append(append(out, binaryVersion), b.id[:]...)
	aad := append(append(make([]byte, 0, binaryHeader+len(topic)), out...), topic...)
	out = append(out, c.Nonce[:]...)
	return b.aead.Seal(out, c.Nonce[:], c.Payload, aad)
}

func (b *Box) openBinary(topic string, s []byte) (c Content, err error) {
	switch {
	case len(s) < binaryExtra:
		return c, fmt.Errorf("%w: it has %d bytes; the shortest has %d", ErrForm, len(s), binaryExtra)
	case s[0] != binaryVersion:
		return c, fmt.Errorf("%w: its first byte is %d, not version %d", ErrForm, s[0], binaryVersion)
	case [idBytes]byte(s[1:binaryHeader]) != b.id:
		return c, fmt.Errorf("%w: %x, not %x", ErrKey, s[1:binaryHeader], b.id)
	}
	aad := append(append(make([]byte, 0, binaryHeader+len(topic)), s[:binaryHeader]...), topic...)
	c.Nonce = [nonceBytes]byte(s[binaryHeader:])
	c.Payload, err = b.aead.Open(nil, c.Nonce[:], s[binaryHeader+nonceBytes:], aad)
	if err != nil {
		return Content{}, ErrTag
	}
	return c, nil
}
