package ws

import (
	"bytes"
	"iter"
	"strconv"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

const seqsKeep = 256 // sequence numbers

// reset forgets what was decoded, but not its room.
func (r *request) reset() {
	*r = request{seqs: r.seqs[:0]}
	if cap(r.seqs) > seqsKeep {
		r.seqs = nil
	}
}

// objects yields the objects of a text message; empty lines are none.
func objects(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.SplitSeq(text, []byte("\n")) {
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
