package ws

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// verb is the operation of an object.
type verb uint8

const (
	noVerb verb = iota
	verbHello
	verbAck
	verbNack
	verbSub
	verbUnsub
	verbPub
	verbAuth
	verbPing
)

const verbs = "hello, ack, nack, sub, unsub, pub, auth, ping"

const maxEcho = 64 // bytes of an id or a ping's value

// request is one decoded object. id and ping alias the frame.
type request struct {
	id   []byte // a JSON number or string, to be repeated; nil without
	verb verb

	device, token string // hello; token: auth

	sub     int32 // ack, nack, unsub
	hasUpTo bool
	upTo    uint64
	hasSeqs bool
	seqs    []uint64
	seq     uint64
	reason  string
	delay   time.Duration
	reject  bool

	want courier.Request  // sub; want.Name: unsub
	msg  *message.Message // pub
	ping []byte
}

func badRequest(format string, args ...any) error {
	return message.Problemf(message.CodeBadRequest, format, args...)
}

// decode reads one object into r, which must be empty. The error is a [message.Problem]; r.id is set even
// then, if the object had one. Unknown members are errors, so that a misspelt option does not pass
// unnoticed; null means "not given", except as data.
func (r *request) decode(line []byte) error {
	if r.decodePlainAck(line) {
		return nil
	}
	if !json.Valid(line) {
		return message.Problemf(message.CodeBadJSON, "%.60q is not valid JSON; send one whole object a line", line)
	}
	if line[0] != '{' {
		return message.Problemf(message.CodeBadJSON, "%.60q is not an object", line)
	}
	var body []byte
	err := members(line, func(key, value []byte) error {
		v := verbOf(key)
		switch {
		case string(key) == "id":
			return r.setID(value)
		case v == noVerb:
			return badRequest("unknown operation %.40q; known are %s", key, verbs)
		case body != nil:
			return badRequest("an object with two operations; send one")
		}
		r.verb, body = v, value
		return nil
	})
	switch {
	case err != nil:
		return err
	case body == nil:
		return badRequest("an object without an operation; known are %s", verbs)
	case r.verb == verbPing:
		return r.setPing(body)
	case body[0] != '{':
		return badRequest("the operation's value is not an object")
	}
	return r.decodeBody(body)
}

// decodePlainAck reads {"ack":{"sub":1,"upto":4712}}, exactly so: most of what a client sends to which much
// is delivered. Anything else, as far as it is in order, takes the long way.
func (r *request) decodePlainAck(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"ack":{"sub":`))
	if !ok {
		return false
	}
	sub, rest, ok := plainNumber(rest, 9)
	if !ok {
		return false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"upto":`)); !ok {
		return false
	}
	upTo, rest, ok := plainNumber(rest, 18)
	if !ok || string(rest) != "}}" {
		return false
	}
	r.verb, r.sub, r.hasUpTo, r.upTo = verbAck, int32(sub), true, upTo
	return true
}

// plainNumber reads up to most digits, which must not begin with a needless zero.
func plainNumber(b []byte, most int) (n uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && i < most && '0' <= b[i] && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	return n, b[i:], i == 1 || i > 1 && b[0] != '0'
}

func verbOf(key []byte) verb {
	switch string(key) {
	case "hello":
		return verbHello
	case "ack":
		return verbAck
	case "nack":
		return verbNack
	case "sub":
		return verbSub
	case "unsub":
		return verbUnsub
	case "pub":
		return verbPub
	case "auth":
		return verbAuth
	case "ping":
		return verbPing
	}
	return noVerb
}

func (r *request) setID(value []byte) error {
	scalar := value[0] == '"' || value[0] == '-' || '0' <= value[0] && value[0] <= '9'
	if !scalar || len(value) > maxEcho {
		return badRequest("id is not a number or string of at most %d bytes", maxEcho)
	}
	r.id = value
	return nil
}

func (r *request) setPing(value []byte) error {
	if len(value) > maxEcho || value[0] == '{' || value[0] == '[' {
		return badRequest("ping is not a plain value of at most %d bytes", maxEcho)
	}
	r.ping = value
	return nil
}

func (r *request) decodeBody(body []byte) error {
	switch r.verb {
	case verbHello:
		return each(body, "hello", func(key, v []byte) (bool, error) {
			switch string(key) {
			case "device":
				return true, text(v, key, &r.device)
			case "token":
				return true, text(v, key, &r.token)
			}
			return false, nil
		})
	case verbAuth:
		err := each(body, "auth", func(key, v []byte) (bool, error) {
			return string(key) == "token", text(v, key, &r.token)
		})
		return need(err, r.token != "", "auth", "token")
	case verbAck:
		return r.decodeAck(body)
	case verbNack:
		return r.decodeNack(body)
	case verbSub:
		return r.decodeSub(body)
	case verbUnsub:
		return r.decodeUnsub(body)
	default:
		return r.decodePub(body)
	}
}

func (r *request) decodeAck(body []byte) error {
	hasSub := false
	err := each(body, "ack", func(key, v []byte) (bool, error) {
		switch string(key) {
		case "sub":
			hasSub = true
			return true, subNumber(v, &r.sub)
		case "upto":
			r.hasUpTo = true
			return true, unsigned(v, key, &r.upTo)
		case "seqs":
			return true, r.decodeSeqs(v)
		}
		return false, nil
	})
	if err == nil && r.hasUpTo == r.hasSeqs {
		return badRequest("ack needs either upto or seqs")
	}
	return need(err, hasSub, "ack", "sub")
}

func (r *request) decodeSeqs(v []byte) error {
	if v[0] != '[' {
		return badRequest("seqs is not an array of sequence numbers")
	}
	r.hasSeqs = true
	return elements(v, func(e []byte) error {
		var n uint64
		err := unsigned(e, "seqs", &n)
		r.seqs = append(r.seqs, n)
		return err
	})
}

func (r *request) decodeNack(body []byte) error {
	hasSub, hasSeq := false, false
	err := each(body, "nack", func(key, v []byte) (bool, error) {
		switch string(key) {
		case "sub":
			hasSub = true
			return true, subNumber(v, &r.sub)
		case "seq":
			hasSeq = true
			return true, unsigned(v, key, &r.seq)
		case "reason":
			return true, text(v, key, &r.reason)
		case "delay_ms":
			var ms uint64
			err := unsigned(v, key, &ms)
			if err == nil && ms > uint64(message.MaxTTL/time.Millisecond) {
				err = badRequest("delay_ms is out of range 0 to %d", message.MaxTTL/time.Millisecond)
			}
			r.delay = time.Duration(ms) * time.Millisecond
			return true, err
		case "reject":
			return true, boolean(v, key, &r.reject)
		}
		return false, nil
	})
	if err == nil && len(r.reason) > message.MaxAttributeBytes {
		return badRequest("reason has %d bytes; the limit is %d", len(r.reason), message.MaxAttributeBytes)
	}
	return need(need(err, hasSub, "nack", "sub"), hasSeq, "nack", "seq")
}

func (r *request) decodeSub(body []byte) error {
	var topic, after string
	err := each(body, "sub", func(key, v []byte) (bool, error) {
		switch string(key) {
		case "topic":
			return true, text(v, key, &topic)
		case "after":
			return true, text(v, key, &after)
		case "name":
			return true, text(v, key, &r.want.Name)
		}
		return false, nil
	})
	if err == nil {
		r.want.Filter, err = message.ParseFilter(topic)
	}
	if err == nil && after != "" {
		r.want.After, err = message.ParseID(after)
	}
	if err == nil && r.want.Name != "" {
		err = message.CheckName("subscription name", r.want.Name)
	}
	return err
}

func (r *request) decodeUnsub(body []byte) error {
	hasSub := false
	err := each(body, "unsub", func(key, v []byte) (bool, error) {
		switch string(key) {
		case "sub":
			hasSub = true
			return true, subNumber(v, &r.sub)
		case "name":
			return true, text(v, key, &r.want.Name)
		}
		return false, nil
	})
	if err == nil && hasSub == (r.want.Name != "") {
		return badRequest("unsub needs either sub or name")
	}
	if !hasSub {
		r.sub = -1
	}
	return err
}

// each walks an operation's members; null ones were not given, except data. known says whether the
// operation has the member.
func each(body []byte, op string, member func(key, v []byte) (known bool, err error)) error {
	return members(body, func(key, v []byte) error {
		if v[0] == 'n' && string(key) != "data" {
			return nil
		}
		known, err := member(key, v)
		if !known {
			return badRequest("%s has no %.40q", op, key)
		}
		return err
	})
}

func need(err error, have bool, op, field string) error {
	if err == nil && !have {
		return badRequest("%s needs %s", op, field)
	}
	return err
}

// name is a member's name for an error.
type name interface{ string | []byte }

func text[K name](v []byte, key K, to *string) error {
	if v[0] != '"' {
		return badRequest("%s is not a string", key)
	}
	*to = unquote(v)
	return nil
}

func boolean[K name](v []byte, key K, to *bool) error {
	if v[0] != 't' && v[0] != 'f' {
		return badRequest("%s is neither true nor false", key)
	}
	*to = v[0] == 't'
	return nil
}

func unsigned[K name](v []byte, key K, to *uint64) error {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return badRequest("%s is not a whole number of at least 0", key)
	}
	*to = n
	return nil
}

func subNumber(v []byte, to *int32) error {
	n, err := strconv.ParseUint(string(v), 10, 31)
	if err != nil {
		return badRequest("sub is not a subscription's number")
	}
	*to = int32(n)
	return nil
}

// duration reads seconds, or a string like "10m" or "90".
func duration[K name](v []byte, key K, to *time.Duration) error {
	s := string(v)
	if v[0] == '"' {
		s = unquote(v)
		if d, err := time.ParseDuration(s); err == nil {
			*to = d // Message.Check names the range
			return nil
		}
	}
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil || !(seconds >= 0 && seconds <= message.MaxTTL.Seconds()) {
		return badRequest("%s %.40s is neither seconds nor a duration like 10m, of at most %v", key, v, message.MaxTTL)
	}
	*to = time.Duration(seconds * float64(time.Second))
	return nil
}

func unquote(v []byte) string {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	var s string
	if json.Unmarshal(v, &s) != nil { // v is valid JSON, so it does
		return ""
	}
	return s
}
