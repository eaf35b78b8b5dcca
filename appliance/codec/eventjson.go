package codec

import (
	"encoding/base64"
	"slices"
	"strconv"
	"unicode/utf8"

	"edgepost/appliance/message"
)

func decodeJSON(body []byte) (*message.Message, error) {
	if !utf8.Valid(body) {
		return nil, message.Problemf(message.CodeBadUTF8, "the event is not valid UTF-8")
	}
	s := scanner{b: body}
	m, err := s.event(1)
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return m, nil
}

func decodeBatchJSON(body []byte) ([]*message.Message, error) {
	if !utf8.Valid(body) {
		return nil, message.Problemf(message.CodeBadUTF8, "the batch is not valid UTF-8")
	}
	s := scanner{b: body}
	if !s.take('[') {
		return nil, s.fail("no array")
	}
	var ms []*message.Message
	for !s.take(']') {
		if len(ms) > 0 && !s.take(',') {
			return nil, s.fail("no comma or closing bracket")
		}
		if len(ms) == MaxBatch {
			return nil, tooMany()
		}
		m, err := s.event(2)
		if err != nil {
			return nil, &IndexError{len(ms), err}
		}
		ms = append(ms, m)
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return ms, nil
}

func tooMany() error {
	return message.Problemf(message.CodeTooLarge, "the batch has more than %d events", MaxBatch)
}

// event scans one event object (CloudEvents JSON format 1.0.2 §2, §3).
func (s *scanner) event(depth int) (*message.Message, error) {
	e := draft{m: message.New("", nil)}
	var seen []string
	var data, binary []byte
	err := s.object(depth, func(quoted []byte) error {
		text, ok := unquote(quoted)
		if !ok {
			return s.fail("half a surrogate pair in a member name")
		}
		name := string(text)
		if slices.Contains(seen, name) {
			return message.Problemf(message.CodeBadJSON, "the event has the member %.40q twice", name)
		}
		if len(seen) > 2*message.MaxProperties {
			return message.Problemf(message.CodeTooLarge, "the event has more than %d members", 2*message.MaxProperties)
		}
		seen = append(seen, name)
		v, err := s.value(depth + 1)
		switch {
		case err != nil:
			return err
		case name == "data":
			data = v
		case name == "data_base64":
			binary = v
		default:
			return e.member(name, v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := e.data(data, binary); err != nil {
		return nil, err
	}
	return e.finish()
}

// member takes one attribute; null means unset.
func (e *draft) member(name string, v []byte) error {
	switch c := v[0]; {
	case c == 'n':
		return nil
	case c == '"':
		text, ok := unquote(v)
		if !ok {
			return message.Problemf(message.CodeBadUTF8, "the event's attribute %.40q has half a surrogate pair", name)
		}
		return e.set(name, string(text))
	case CoreAttribute(name):
		return message.Problemf(message.CodeBadJSON, "the event's attribute %.40q must be a string", name)
	case c == 't' || c == 'f':
		return e.set(name, string(v))
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil {
		return message.Problemf(message.CodeBadJSON, "the event's attribute %.40q must be a string, a boolean or an integer of 32 bits", name)
	}
	return e.set(name, strconv.FormatInt(n, 10))
}

// data takes the payload (§3.1.2). Without datacontenttype, "data" is JSON.
func (e *draft) data(data, binary []byte) error {
	null := func(v []byte) bool { return len(v) > 0 && v[0] == 'n' }
	if null(binary) {
		binary = nil
	}
	switch {
	case data != nil && binary != nil:
		return message.Problemf(message.CodeBadJSON, "the event has both data and data_base64")
	case binary != nil:
		return e.base64(binary)
	case data == nil:
		return nil
	}
	f := formOf(e.m.ContentType)
	if f == formUnknown {
		e.m.ContentType, f = JSON, formJSON
	}
	if f == formJSON {
		e.m.Payload = data
		return nil
	}
	if null(data) {
		return nil
	}
	if data[0] != '"' {
		return message.Problemf(message.CodeBadJSON, "the event's data must be a string, because its datacontenttype %.60q is not JSON", e.m.ContentType)
	}
	text, ok := unquote(data)
	if !ok {
		return message.Problemf(message.CodeBadUTF8, "the event's data has half a surrogate pair")
	}
	e.m.Payload = text
	return nil
}

func (e *draft) base64(quoted []byte) error {
	if quoted[0] != '"' {
		return message.Problemf(message.CodeBadJSON, "the event's data_base64 must be a string")
	}
	text, ok := unquote(quoted)
	if !ok {
		return message.Problemf(message.CodeBadUTF8, "the event's data_base64 has half a surrogate pair")
	}
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return message.Problemf(message.CodeBadJSON, "the event's data_base64 is not base64: %v", err)
	}
	e.m.Payload = b
	return nil
}

// appendJSON writes one event object.
func appendJSON(dst []byte, m *message.Message, gateway string) []byte {
	sep := byte('{')
	member := func(name string) {
		dst = append(dst, sep, '"')
		dst = append(append(dst, name...), `":`...)
		sep = ','
	}
	for _, a := range Attributes(m, gateway) {
		member(a.Key)
		if n, ok := integer(a); ok {
			dst = strconv.AppendInt(dst, int64(n), 10)
		} else {
			dst = AppendString(dst, a.Value)
		}
	}
	if m.ContentType != "" {
		member("datacontenttype")
		dst = AppendString(dst, m.ContentType)
	}
	f := formOf(m.ContentType)
	switch {
	case len(m.Payload) == 0:
	case f == formJSON && validJSON(m.Payload):
		member("data")
		dst = append(dst, m.Payload...)
	case f == formText && utf8.Valid(m.Payload):
		member("data")
		dst = AppendString(dst, m.Payload)
	default: // also without a content type, where "data" would mean JSON
		member("data_base64")
		dst = appendBase64(dst, m.Payload)
	}
	return append(dst, '}')
}

// integer reports whether the attribute is one of ours that is an Integer (32 bits).
func integer(a message.Property) (int32, bool) {
	if a.Key != "priority" && a.Key != "ttl" {
		return 0, false
	}
	n, err := strconv.ParseInt(a.Value, 10, 32)
	if err != nil || strconv.FormatInt(n, 10) != a.Value {
		return 0, false
	}
	return int32(n), true
}

func encodeBatchJSON(ms []*message.Message, gateway string) []byte {
	dst := []byte{'['}
	for i, m := range ms {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, m, gateway)
	}
	return append(dst, ']')
}
