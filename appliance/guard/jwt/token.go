package jwt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

// MaxToken is the most bytes of a token.
const MaxToken = 8 << 10

// LooksLike reports whether the text may be meant as a JSON Web Token: the base64 of `{"` or `{ `, and
// a dot behind it. A password that a person chose, with a dot in it, is none.
func LooksLike(token string) bool {
	return strings.HasPrefix(token, "ey") && strings.IndexByte(token, '.') >= 0
}

// split cuts a token of the right length and shape into its parts, decoded; canonical base64url only,
// so that a token has one spelling. It allocates nothing for a wrong shape.
func split(token string) (header, payload []byte, err error) {
	if len(token) > MaxToken {
		return nil, nil, fmt.Errorf("it has %d bytes; the limit is %d", len(token), MaxToken)
	}
	dots := 0
	for i := 0; i < len(token); i++ {
		switch c := token[i]; {
		case c == '.':
			dots++
			if i == 0 || i == len(token)-1 || token[i-1] == '.' || dots > 2 {
				return nil, nil, errShape
			}
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return nil, nil, errShape
		}
	}
	if dots != 2 {
		return nil, nil, errShape
	}
	strict := base64.RawURLEncoding.Strict()
	var parts [3][]byte
	for i, word := range strings.Split(token, ".") {
		if parts[i], err = strict.DecodeString(word); err != nil {
			return nil, nil, errShape
		}
	}
	return parts[0], parts[1], nil
}

var errShape = errors.New("it is not three base64url words with dots between them")

// header is what of a JOSE header (RFC 7515 §4) is looked at.
type header struct {
	Alg  string          `json:"alg"`
	Typ  string          `json:"typ"`
	Kid  string          `json:"kid"`
	Crit json.RawMessage `json:"crit"`
	B64  json.RawMessage `json:"b64"`
	Cty  string          `json:"cty"`
	Zip  string          `json:"zip"`
}

func parseHeader(raw []byte) (*header, error) {
	var h header
	if !utf8.Valid(raw) || json.Unmarshal(raw, &h) != nil {
		return nil, errors.New("its header is not one JSON object without duplicates")
	}
	switch {
	case h.Crit != nil || h.B64 != nil || h.Zip != "":
		return nil, errors.New("its header has crit, b64 or zip, which are not understood here")
	case len(h.Kid) > maxKeyID:
		return nil, fmt.Errorf("its kid has %d bytes; the limit is %d", len(h.Kid), maxKeyID)
	}
	return &h, nil
}

// typed reports whether typ is one of those, without "application/" and in any case (RFC 7515
// §4.1.9). "" stands for a token without typ.
func (h *header) typed(allowed []string) bool {
	typ := h.Typ
	if p := "application/"; len(typ) > len(p) && strings.EqualFold(typ[:len(p)], p) {
		typ = typ[len(p):]
	}
	for _, a := range allowed {
		if strings.EqualFold(a, typ) {
			return true
		}
	}
	return false
}

// claims is the claims set (RFC 7519 §4) as it is, by name.
type claims map[string]json.RawMessage

func parseClaims(raw []byte) (claims, error) {
	var c claims
	if !utf8.Valid(raw) || json.Unmarshal(raw, &c) != nil || c == nil {
		return nil, errors.New("its claims are not one JSON object in UTF-8 without duplicates")
	}
	return c, nil
}

// text reads a claim that is a string without control characters; "" when it is absent.
func (c claims) text(name string) (string, error) {
	raw, ok := c[name]
	if !ok {
		return "", nil
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil || *s == "" {
		return "", fmt.Errorf("its claim %s is not a text", name)
	}
	if strings.ContainsFunc(*s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return "", fmt.Errorf("its claim %s has control characters, or is not UTF-8", name)
	}
	return *s, nil
}

// texts reads a claim that is a string or a list of them.
func (c claims) texts(name string) ([]string, error) {
	raw, ok := c[name]
	if !ok {
		return nil, nil
	}
	if len(raw) > 0 && raw[0] != '[' {
		s, err := c.text(name)
		return []string{s}, err
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || len(list) > maxAudien {
		return nil, fmt.Errorf("its claim %s is not a text or a list of texts", name)
	}
	return list, nil
}

// bound reads the claim cnf (RFC 7800): the thumbprint of the certificate that its bearer must show (RFC 8705 §3.1); "" when it
// asks for nothing. Other proofs are not understood, and a token that asks for one is not for us.
func (c claims) bound() (string, error) {
	raw, ok := c["cnf"]
	if !ok {
		return "", nil
	}
	var cnf claims
	if json.Unmarshal(raw, &cnf) != nil || len(cnf) != 1 || cnf["x5t#S256"] == nil {
		return "", errors.New("its claim cnf asks for another proof than a certificate with a thumbprint (x5t#S256)")
	}
	return cnf.text("x5t#S256")
}

// maxDate is the end of the year 9999 in unix seconds: what is later is a mistake or an attack.
const maxDate = 253402300799

// date reads a NumericDate (RFC 7519 §2); zero when it is absent.
func (c claims) date(name string) (time.Time, error) {
	raw, ok := c[name]
	if !ok {
		return time.Time{}, nil
	}
	bad := fmt.Errorf("its claim %s is not a date in seconds since 1970", name)
	if len(raw) == 0 || len(raw) > 32 || raw[0] < '0' || raw[0] > '9' { // not a string, not null, not negative
		return time.Time{}, bad
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f > maxDate {
		return time.Time{}, bad
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}
