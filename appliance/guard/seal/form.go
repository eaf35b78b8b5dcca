package seal

import (
	"fmt"
	"strings"

	"edgepost/appliance/guard/cipher"
)

// Form is how a sealed payload looks; the numbers are stored.
type Form uint8

// The forms.
const (
	None   Form = iota // not sealed
	JWE                // RFC 7516, compact
	Binary             // the package's own, see the package comment
)

// Media types of the forms.
const (
	TypeJWE    = "application/jose"
	TypeBinary = "application/vnd.edgepost.a256gcm"
)

// ParseForm reads a form's name; "" and "off" are [None]. The error says what is allowed and, of ciphers that
// are known to be broken, why they are not.
func ParseForm(name string) (Form, error) {
	switch strings.ToLower(name) {
	case "", "off":
		return None, nil
	case "jwe":
		return JWE, nil
	case "a256gcm":
		return Binary, nil
	}
	if err := cipher.Withdrawn(name, "jwe or a256gcm"); err != nil {
		return None, err
	}
	return None, fmt.Errorf("%.40q is not a form of sealed payloads; jwe, a256gcm or off", name)
}

func (f Form) String() string {
	switch f {
	case JWE:
		return "jwe"
	case Binary:
		return "a256gcm"
	case None:
	}
	return "off"
}

// MarshalText implements [encoding.TextMarshaler].
func (f Form) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; the error is ParseForm's.
func (f *Form) UnmarshalText(b []byte) (err error) {
	*f, err = ParseForm(string(b))
	return err
}

// ContentType is the media type of a payload in that form; "" for None.
func (f Form) ContentType() string {
	switch f {
	case JWE:
		return TypeJWE
	case Binary:
		return TypeBinary
	case None:
	}
	return ""
}

// FormOf is the form that a content type names, [None] if it is another.
func FormOf(contentType string) Form {
	t, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(t)) {
	case TypeJWE:
		return JWE
	case TypeBinary:
		return Binary
	}
	return None
}

// KeyID is the id of the key that a payload of that form says it is sealed with. It reads the outside only and checks
// nothing; false when the payload is not of the form.
func (f Form) KeyID(payload []byte) (string, bool) {
	switch f {
	case JWE:
		h, _, err := splitJWE(payload)
		return h.KeyID, err == nil
	case Binary:
		if len(payload) >= binaryExtra && payload[0] == binaryVersion {
			return fmt.Sprintf("%x", payload[1:1+idBytes]), true
		}
	case None:
	}
	return "", false
}
