package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"edgepost/appliance/message"
)

// recordKind is the first byte of a record; the numbers are part of the format.
type recordKind uint8

const (
	putGateway   recordKind = 1
	putDevice    recordKind = 2
	removeDevice recordKind = 3
	putGroup     recordKind = 4
	removeGroup  recordKind = 5
	putKey       recordKind = 6
	removeKey    recordKind = 7
	covers       recordKind = 8
	putDevice2   recordKind = 9
	putUser      recordKind = 10
	removeUser   recordKind = 11
	putClaim     recordKind = 12
	removeClaim  recordKind = 13
	putDevice3   recordKind = 14
)

// record is one decoded record of the ledger; which fields count depends on its kind.
type record struct {
	kind    recordKind
	name    string // of the gateway, device, group or key
	label   string
	groups  []string
	rules   message.Rules
	admin   bool
	created int64 // unix ns, 0 unknown
	hash    [sha256.Size]byte
	epoch   message.Epoch
	machine string
	covers  uint64
	extra   extra
	until   int64 // of a claim code: unix ns, 0 for ever
}

// unknownKind is a record that a newer version wrote.
type unknownKind recordKind

func (k unknownKind) Error() string {
	return fmt.Sprintf("record kind %d is not known to this version; run the version that wrote it, or a newer one", uint8(k))
}

var errRecord = errors.New("record is damaged")

func (r *record) encode() []byte {
	b := []byte{byte(r.kind)}
	if r.kind == covers {
		return binary.AppendUvarint(b, r.covers)
	}
	b = appendString(b, r.name)
	switch r.kind {
	case putGateway:
		b = appendString(b, string(r.epoch))
		b = appendString(b, r.machine)
	case putDevice, putDevice2, putDevice3:
		b = appendString(b, r.label)
		b = appendStrings(b, r.groups)
		b = r.appendSecured(b)
		if r.kind != putDevice {
			b = r.extra.append(b)
		}
		if r.kind == putDevice3 {
			b = r.extra.appendSeal(b)
		}
	case putGroup:
		b = appendString(b, r.label)
	case putKey:
		b = appendString(b, r.label)
		b = appendBool(b, r.admin)
		b = r.appendSecured(b)
	case putUser:
		b = appendString(b, r.label)
		b = appendBool(b, r.admin)
		b = r.appendRules(b)
		b = appendString(b, r.extra.password)
	case putClaim:
		b = binary.AppendVarint(b, r.until)
		b = append(b, r.hash[:]...)
	default: // a removal is its name
	}
	return b
}

func (r *record) appendSecured(b []byte) []byte {
	b = r.appendRules(b)
	return append(b, r.hash[:]...)
}

func (r *record) appendRules(b []byte) []byte {
	for _, list := range [...][]message.Filter{r.rules.Publish, r.rules.DenyPublish, r.rules.Subscribe, r.rules.DenySubscribe} {
		b = appendStrings(b, list)
	}
	return binary.AppendVarint(b, r.created)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendString[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStrings[S ~string](b []byte, list []S) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// decode reads a record. The error is unknownKind or errRecord.
func decode(data []byte) (record, error) {
	if len(data) == 0 {
		return record{}, errRecord
	}
	c := cursor{b: data[1:]}
	r := record{kind: recordKind(data[0])}
	if r.kind == covers {
		r.covers = c.uvarint()
	} else {
		r.name = c.string()
	}
	switch r.kind {
	case covers, removeDevice, removeGroup, removeKey, removeUser, removeClaim:
	case putGateway:
		r.epoch = message.Epoch(c.string())
		r.machine = c.string()
	case putDevice, putDevice2, putDevice3:
		r.label = c.string()
		r.groups = decodeStrings[string](&c)
		r.decodeSecured(&c)
		if r.kind != putDevice {
			r.extra.decode(&c)
		}
		if r.kind == putDevice3 {
			r.extra.decodeSeal(&c)
		}
	case putGroup:
		r.label = c.string()
	case putKey:
		r.label = c.string()
		r.admin = c.bool()
		r.decodeSecured(&c)
	case putUser:
		r.label = c.string()
		r.admin = c.bool()
		r.decodeRules(&c)
		r.extra.password = c.string()
	case putClaim:
		r.until = c.varint()
		copy(r.hash[:], c.take(sha256.Size))
	default:
		return record{}, unknownKind(r.kind)
	}
	if c.bad || len(c.b) > 0 {
		return record{}, fmt.Errorf("%w: kind %d, %d bytes", errRecord, r.kind, len(data))
	}
	return r, nil
}

func (r *record) decodeSecured(c *cursor) {
	r.decodeRules(c)
	copy(r.hash[:], c.take(sha256.Size))
}

func (r *record) decodeRules(c *cursor) {
	for _, list := range [...]*[]message.Filter{&r.rules.Publish, &r.rules.DenyPublish, &r.rules.Subscribe, &r.rules.DenySubscribe} {
		*list = decodeStrings[message.Filter](c)
	}
	r.created = c.varint()
}

func decodeStrings[S ~string](c *cursor) []S {
	n := c.uvarint()
	if n > uint64(len(c.b)) { // each takes a byte at least
		c.bad = true
	}
	if n == 0 || c.bad {
		return nil
	}
	list := make([]S, 0, min(n, 64)) // grown by what is really there, not by what a length claims
	for range n {
		list = append(list, S(c.string()))
		if c.bad {
			return nil
		}
	}
	return list
}

// cursor reads fields; after the first that is not there everything is zero and bad is set.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)) {
		c.bad = true
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) string() string { return string(c.take(c.uvarint())) }

func (c *cursor) bool() bool {
	b := c.take(1)
	if len(b) == 1 && b[0] > 1 {
		c.bad = true
	}
	return len(b) == 1 && b[0] == 1
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || c.bad {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 || c.bad || v == math.MinInt64 {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return v
}
