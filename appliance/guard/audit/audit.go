// Package audit is the format of the audit history: who did what, chained by hashes so that a gap or a change shows. It is pure;
// the appliance publishes the records on $edge/audit/log, where only administrators read and nobody else publishes.
//
// A record is a JSON object, one line:
//
//	n       number, from 1, without gaps
//	prev    SHA-256 of the record before, its bytes as they are, in hex; 64 zeros for the first
//	at      when, RFC 3339; absent while the clock was not trusted
//	actor   principal: "user/ann", "key/app", "owner"; absent for somebody unknown
//	from    address of the client; absent on the control socket
//	action  "device.add", "session.open", …
//	object  what it was done to
//	result  "ok", or the code of the problem
//	note    more, for people
//	missed  how many records could not be stored before this one
//
// What the chain shows: a record that was changed, removed or put in between, and the loss of a part. What it does not show: that the
// newest records are gone, or that everything was written anew by who can write the disk. Against that, note the head ([Head])
// elsewhere: [Verify] finds whether it is still in the chain. No record holds a secret.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxText is the most bytes of one text of a record: strangers choose some of them.
const maxText = 256

// OK is the result of what was done.
const OK = "ok"

// Record is one line of the audit.
type Record struct {
	N      uint64    `json:"n"`
	Prev   string    `json:"prev"`
	At     time.Time `json:"at,omitzero"`
	Actor  string    `json:"actor,omitempty"`
	From   string    `json:"from,omitempty"`
	Action string    `json:"action"`
	Object string    `json:"object,omitempty"`
	Result string    `json:"result"`
	Note   string    `json:"note,omitempty"`
	Missed uint64    `json:"missed,omitempty"`
}

// Head names the newest record of a chain; the zero Head is that of an empty one.
type Head struct {
	N    uint64
	Hash [sha256.Size]byte
}

// String is "N:HASH", which people note elsewhere.
func (h Head) String() string {
	return strconv.FormatUint(h.N, 10) + ":" + hex.EncodeToString(h.Hash[:])
}

// ParseHead reads what String wrote.
func ParseHead(s string) (Head, error) {
	var h Head
	n, hash, ok := strings.Cut(s, ":")
	number, err := strconv.ParseUint(n, 10, 64)
	raw, err2 := hex.DecodeString(hash)
	if !ok || err != nil || err2 != nil || len(raw) != sha256.Size {
		return h, fmt.Errorf("%.80q is not a head of the audit; it looks like 17:3f9c… with 64 hex digits", s)
	}
	h.N = number
	copy(h.Hash[:], raw)
	return h, nil
}

// Next chains the record to the head and returns its bytes and the new head.
func (h Head) Next(r Record) ([]byte, Head, error) {
	r.N, r.Prev = h.N+1, hex.EncodeToString(h.Hash[:])
	r.At = r.At.UTC().Truncate(time.Millisecond)
	for _, s := range []*string{&r.Actor, &r.From, &r.Action, &r.Object, &r.Result, &r.Note} {
		*s = clip(*s)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, h, fmt.Errorf("encode audit record: %w", err)
	}
	return b, Head{N: r.N, Hash: sha256.Sum256(b)}, nil
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	s = s[:maxText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// Parse reads a record and returns the head that it makes.
func Parse(b []byte) (Record, Head, error) {
	var r Record
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, Head{}, fmt.Errorf("read audit record: %w", err)
	}
	return r, Head{N: r.N, Hash: sha256.Sum256(b)}, nil
}

// Verifier walks a chain from its oldest kept record. The zero value is ready.
type Verifier struct {
	First uint64 // number of the oldest record
	Head  Head   // of the newest
	Count int
	Found bool // the head that was looked for is in the chain

	Want Head // looked for; zero: none
}

// Add takes the next record. The error says what is wrong with it, and the walk is over.
func (v *Verifier) Add(b []byte) error {
	r, head, err := Parse(b)
	switch {
	case err != nil:
		return fmt.Errorf("behind record %d: %w", v.Head.N, err)
	case v.Count == 0:
		v.First = r.N
	case r.N != v.Head.N+1:
		return fmt.Errorf("record %d follows record %d: a part is missing", r.N, v.Head.N)
	case r.Prev != hex.EncodeToString(v.Head.Hash[:]):
		return fmt.Errorf("record %d does not fit record %d: one of them was changed", r.N, v.Head.N)
	}
	if r.N == 1 && r.Prev != hex.EncodeToString(make([]byte, sha256.Size)) {
		return fmt.Errorf("record 1 has a record before it: it was changed")
	}
	v.Count++
	v.Head = head
	v.Found = v.Found || v.Want.N != 0 && head == v.Want
	return nil
}
