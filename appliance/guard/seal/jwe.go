package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4/json" // names are exact, and no name comes twice

	withdrawn "edgepost/appliance/guard/cipher"
)

const (
	algDir    = "dir"
	encGCM    = "A256GCM"
	maxHeader = 4 << 10 // of base64url: a topic and a content type fit
)

// header is the protected header of a JWE; members that are not here are ignored, as RFC 7516 §4 wants it.
type header struct {
	Alg   string          `json:"alg"`
	Enc   string          `json:"enc"`
	KeyID string          `json:"kid,omitempty"`
	Type  string          `json:"cty,omitempty"`
	Topic *string         `json:"topic,omitempty"`
	Zip   json.RawMessage `json:"zip,omitempty"`
	Crit  json.RawMessage `json:"crit,omitempty"`
}

func (b *Box) sealJWE(topic string, c Content) []byte {
	h, err := json.Marshal(&header{Alg: algDir, Enc: encGCM, KeyID: b.KeyID(), Type: c.Type, Topic: &topic})
	if err != nil {
		panic(err) // strings can be encoded
	}
	enc := base64.RawURLEncoding
	size := enc.EncodedLen(len(h)) + 2 + enc.EncodedLen(nonceBytes) + 1 + enc.EncodedLen(len(c.Payload)) + 1 + enc.EncodedLen(tagBytes)
	out := enc.AppendEncode(make([]byte, 0, size), h)
	body := b.aead.Seal(nil, c.Nonce[:], c.Payload, out)
	out = enc.AppendEncode(append(out, '.', '.'), c.Nonce[:]) // with dir there is no encrypted key: RFC 7516 §5.1 step 5
	cut := len(body) - tagBytes
	out = enc.AppendEncode(append(out, '.'), body[:cut])
	return enc.AppendEncode(append(out, '.'), body[cut:])
}

func (b *Box) openJWE(topic string, s []byte) (c Content, err error) {
	h, parts, err := splitJWE(s)
	if err != nil {
		return c, err
	}
	if err := h.check(); err != nil {
		return c, err
	}
	switch {
	case len(parts[1]) > 0:
		return c, fmt.Errorf("%w: with alg dir the encrypted key is empty", ErrForm)
	case h.KeyID != b.KeyID():
		return c, fmt.Errorf("%w: kid is %.40q, not %s", ErrKey, h.KeyID, b.KeyID())
	case h.Topic == nil:
		return c, fmt.Errorf("%w: its header has no topic, so anybody on the way could have moved it", ErrTopic)
	case *h.Topic != topic:
		return c, fmt.Errorf("%w: %.80q", ErrTopic, *h.Topic)
	}
	nonce, err1 := decodePart(parts[2])
	body, err2 := decodePart(parts[3])
	tag, err3 := decodePart(parts[4])
	if err1 != nil || err2 != nil || err3 != nil || len(nonce) != nonceBytes || len(tag) != tagBytes {
		return c, fmt.Errorf("%w: nonce, ciphertext or tag is no base64url of the right length", ErrForm)
	}
	c.Nonce, c.Type = [nonceBytes]byte(nonce), mediaType(h.Type)
	if c.Payload, err = b.aead.Open(nil, nonce, append(body, tag...), parts[0]); err != nil {
		return Content{}, ErrTag
	}
	return c, nil
}

// check refuses everything but the one form, by name.
func (h *header) check() error {
	for _, one := range [...]struct{ name, is, want string }{{"alg", h.Alg, algDir}, {"enc", h.Enc, encGCM}} {
		if one.is == one.want {
			continue
		}
		if err := withdrawn.Withdrawn(one.is, one.want); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrForm, one.name, err)
		}
		return fmt.Errorf("%w: %s is %.40q; only %s is", ErrForm, one.name, one.is, one.want)
	}
	switch {
	case len(h.Zip) > 0:
		return fmt.Errorf("%w: zip is not offered: its size would tell about its content, and who opens it could not know how much comes out", ErrForm)
	case len(h.Crit) > 0:
		return fmt.Errorf("%w: crit names an extension, and none is understood", ErrForm)
	}
	return nil
}

// splitJWE takes a compact JWE apart and reads its header, which nothing vouches for yet.
func splitJWE(s []byte) (h header, parts [5][]byte, err error) {
	if bytes.Count(s, []byte{'.'}) != 4 {
		return h, parts, fmt.Errorf("%w: a compact JWE has five parts with dots between them", ErrForm)
	}
	for i := range parts {
		parts[i], s, _ = bytes.Cut(s, []byte{'.'})
	}
	if len(parts[0]) > maxHeader {
		return h, parts, fmt.Errorf("%w: its header has %d bytes; the most is %d", ErrForm, len(parts[0]), maxHeader)
	}
	text, err := decodePart(parts[0])
	if err != nil {
		return h, parts, fmt.Errorf("%w: its header is no base64url", ErrForm)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return header{}, parts, fmt.Errorf("%w: its header is no JSON object, or has a name twice", ErrForm)
	}
	return h, parts, nil
}

// decodePart is strict: no line ends, and no bits that say nothing, so that a payload has one spelling.
func decodePart(s []byte) ([]byte, error) {
	enc := base64.RawURLEncoding.Strict()
	if bytes.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return enc.AppendDecode(make([]byte, 0, enc.DecodedLen(len(s))+tagBytes), s)
}

// mediaType completes a cty: "application/" may be left away (RFC 7515 §4.1.10).
func mediaType(cty string) string {
	if cty == "" || strings.Contains(cty, "/") {
		return cty
	}
	return "application/" + cty
}
