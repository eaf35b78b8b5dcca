package ws

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

const seqsKeep = 256 // sequence numbers

// frame holds one text frame and the request that is decoded from it; both are reused.
type frame struct {
	buf []byte
	req request
}

// reset forgets what the frame held, but not its room.
func (f *frame) reset() {
	f.req = request{seqs: f.req.seqs[:0]}
	if cap(f.req.seqs) > seqsKeep {
		f.req.seqs = nil
	}
}

var errTooLarge = errors.New("frame too large")

// fill reads r to its end, which must come within limit bytes; the limit is on what arrives in
// memory, whatever the wire did to it.
func (f *frame) fill(r io.Reader, limit int) error {
	f.buf = f.buf[:0]
	for {
		if len(f.buf) == cap(f.buf) {
			f.buf = slices.Grow(f.buf, min(len(f.buf), limit+1-len(f.buf)))
		}
		room := f.buf[len(f.buf):min(cap(f.buf), limit+1)]
		n, err := r.Read(room)
		f.buf = f.buf[:len(f.buf)+n]
		switch {
		case len(f.buf) > limit:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// lines yields the frame's objects; empty lines are none.
func (f *frame) lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.SplitSeq(f.buf, []byte("\n")) {
			line = bytes.Trim(line, " \t\r")
			if len(line) > 0 && !yield(line) {
				return
			}
		}
	}
}

// appendHead begins an answer: {"id":7,"verb": or {"verb": without an id.
func appendHead(b, id []byte, verb string) []byte {
	b = append(b, '{')
	if id != nil {
		b = append(b, `"id":`...)
		b = append(b, id...)
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, verb...)
	return append(b, `":`...)
}

func (h *Handler) welcome(id []byte, session string) []byte {
	b := appendHead(nil, id, "welcome")
	b = append(b, `{"session":`...)
	b = codec.AppendString(b, session)
	b = append(b, `,"epoch":`...)
	b = codec.AppendString(b, string(h.o.Epoch))
	b = append(b, `,"max_inflight":`...)
	b = strconv.AppendInt(b, int64(h.o.MaxInflight), 10)
	b = append(b, `,"max_bytes":`...)
	b = strconv.AppendInt(b, int64(h.o.MaxBytes), 10)
	b = append(b, `,"ping_ms":`...)
	b = strconv.AppendInt(b, h.o.PingEvery.Milliseconds(), 10)
	return append(b, "}}"...)
}

func appendOK(b, id []byte) []byte { return append(appendHead(b, id, "ok"), "{}}"...) }

func appendSubscribed(b, id []byte, sub int32, gap bool) []byte {
	b = append(appendHead(b, id, "ok"), `{"sub":`...)
	b = strconv.AppendInt(b, int64(sub), 10)
	b = append(b, `,"gap":`...)
	b = strconv.AppendBool(b, gap)
	return append(b, "}}"...)
}

func appendStored(b, id []byte, as message.StoredAs) []byte {
	b = appendHead(b, id, "ok")
	if as.Volatile {
		return append(b, `{"volatile":true}}`...)
	}
	b = append(b, `{"id":"`...)
	b = append(b, as.ID.String()...)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, as.Seq, 10)
	if as.Replayed {
		b = append(b, `,"replayed":true`...)
	}
	return append(b, "}}"...)
}

func appendPong(b, id, value []byte) []byte {
	return append(append(appendHead(b, id, "pong"), value...), '}')
}

func appendError(b, id []byte, p *message.Problem) []byte {
	b = append(appendHead(b, id, "error"), `{"code":`...)
	b = codec.AppendString(b, p.Code)
	b = append(b, `,"detail":`...)
	b = codec.AppendString(b, p.Detail)
	return append(b, "}}"...)
}

// appendLost tells that a subscription ended while its session goes on.
func appendLost(b []byte, sub int32) []byte {
	b = append(b, `{"error":{"code":"`+message.CodeNotFound+`","sub":`...)
	b = strconv.AppendInt(b, int64(sub), 10)
	return append(b, `,"detail":"the subscription was removed"}}`...)
}

func appendBye(b []byte, code int, reason string, retry time.Duration) []byte {
	b = append(b, `{"bye":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"reason":`...)
	b = codec.AppendString(b, reason)
	if retry > 0 {
		b = append(b, `,"retry_ms":`...)
		b = strconv.AppendInt(b, retry.Milliseconds(), 10)
	}
	return append(b, "}}"...)
}

// appendMessageHead begins a message for one receiver; the fields that all receivers share and two
// braces follow.
func appendMessageHead(b []byte, sub int32, attempt int, expires time.Duration) []byte {
	b = append(b, `{"msg":{"sub":`...)
	b = strconv.AppendInt(b, int64(sub), 10)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(max(attempt, 1)), 10)
	if expires > 0 {
		b = append(b, `,"expires_in":`...)
		b = strconv.AppendInt(b, int64((expires+time.Second-1)/time.Second), 10)
	}
	return append(b, ',')
}
