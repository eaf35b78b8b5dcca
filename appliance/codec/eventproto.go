package codec

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"edgepost/appliance/message"
)

// Field numbers of cloudevents.proto (package io.cloudevents.v1), written by hand because
// protobuf-go would add 2 MB to the binary; a test proves equality with it.
const (
	protoID, protoSource, protoSpecVersion, protoType = 1, 2, 3, 4
	protoAttributes                                   = 5
	protoBinary, protoText, protoAny                  = 6, 7, 8

	protoKey, protoValue = 1, 2 // an entry of the attributes

	protoBoolean, protoInteger, protoString, protoBytes = 1, 2, 3, 4 // CloudEventAttributeValue
	protoURI, protoURIRef, protoTimestamp               = 5, 6, 7

	protoSeconds, protoNanos = 1, 2 // google.protobuf.Timestamp
	protoTypeURL, protoBlob  = 1, 2 // google.protobuf.Any

	protoEvents = 1 // CloudEventBatch

	protoLast = 8 // the highest number that any of them uses
)

// typePrefix starts the type URL of a google.protobuf.Any.
const typePrefix = "type.googleapis.com/"

func badProto(what string) error {
	return message.Problemf(message.CodeBadRequest, "Protobuf: %s", what)
}

// field is one field of a message on the wire; b is set for length-delimited ones, n for varints.
type field struct {
	num protowire.Number
	typ protowire.Type
	b   []byte
	n   uint64
}

// eachField walks a message. A known field that comes twice is refused, unless repeated names it:
// protobuf would take the last one, and two readers should not see two events.
func eachField(b []byte, repeated protowire.Number, do func(field) error) error {
	var seen uint64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return badProto("a damaged tag")
		}
		b = b[n:]
		f := field{num: num, typ: typ}
		switch typ {
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return badProto("a damaged field " + strconv.Itoa(int(num)))
		}
		b = b[n:]
		if num <= protoLast && num != repeated {
			if seen&(1<<num) != 0 {
				return badProto("field " + strconv.Itoa(int(num)) + " comes twice")
			}
			seen |= 1 << num
		}
		if err := do(f); err != nil {
			return err
		}
	}
	return nil
}

// bytes returns the content of a length-delimited field.
func (f field) bytes() ([]byte, error) {
	if f.typ != protowire.BytesType {
		return nil, badProto("field " + strconv.Itoa(int(f.num)) + " has the wrong type")
	}
	return f.b, nil
}

// text returns the content of a string field, which must be UTF-8.
func (f field) text() (string, error) {
	b, err := f.bytes()
	if err == nil && !utf8.Valid(b) {
		err = message.Problemf(message.CodeBadUTF8, "Protobuf: the string in field %d is not valid UTF-8", f.num)
	}
	return string(b), err
}

// varint returns the content of a varint field.
func (f field) varint() (uint64, error) {
	if f.typ != protowire.VarintType {
		return 0, badProto("field " + strconv.Itoa(int(f.num)) + " has the wrong type")
	}
	return f.n, nil
}

func decodeProto(body []byte) (*message.Message, error) {
	e := draft{m: message.New("", nil)}
	var typeURL string
	payloads := 0
	err := eachField(body, protoAttributes, func(f field) (err error) {
		var s string
		switch f.num {
		case protoID, protoSource, protoSpecVersion, protoType:
			if s, err = f.text(); err == nil {
				err = e.set([...]string{"", "id", "source", "specversion", "type"}[f.num], s)
			}
			return err
		case protoAttributes:
			return e.protoEntry(f)
		case protoBinary:
			e.m.Payload, err = f.bytes()
		case protoText:
			_, err = f.text()
			e.m.Payload = f.b
		case protoAny:
			typeURL, e.m.Payload, err = protoMessage(f)
		default:
			return nil
		}
		payloads++
		return err
	})
	if err != nil {
		return nil, err
	}
	if payloads > 1 {
		return nil, badProto("the event has more than one of binary_data, text_data and proto_data")
	}
	if typeURL != "" {
		e.m.Event.DataSchema = first(e.m.Event.DataSchema, typeURL)
		e.m.ContentType = first(e.m.ContentType, Protobuf)
	}
	return e.finish()
}

// protoMessage takes a google.protobuf.Any apart.
func protoMessage(f field) (typeURL string, value []byte, err error) {
	b, err := f.bytes()
	if err != nil {
		return "", nil, err
	}
	err = eachField(b, 0, func(f field) (err error) {
		switch f.num {
		case protoTypeURL:
			typeURL, err = f.text()
		case protoBlob:
			value, err = f.bytes()
		default: // not ours
		}
		return err
	})
	return typeURL, value, err
}

// protoEntry takes one entry of the attributes.
func (e *draft) protoEntry(f field) error {
	b, err := f.bytes()
	if err != nil {
		return err
	}
	var name, value string
	err = eachField(b, 0, func(f field) (err error) {
		switch f.num {
		case protoKey:
			name, err = f.text()
		case protoValue:
			var v []byte
			if v, err = f.bytes(); err == nil {
				value, err = protoAttribute(v)
			}
		default: // not ours
		}
		return err
	})
	if err != nil {
		return err
	}
	switch name {
	case "id", "source", "specversion", "type":
		return badProto("the attribute " + name + " belongs into its own field")
	}
	return e.set(name, value)
}

// protoAttribute returns a CloudEventAttributeValue as its canonical string (CloudEvents 1.0 §3.1).
func protoAttribute(b []byte) (value string, err error) {
	values := 0
	err = eachField(b, 0, func(f field) (err error) {
		var n uint64
		switch f.num {
		case protoBoolean:
			n, err = f.varint()
			value = strconv.FormatBool(n != 0)
		case protoInteger:
			n, err = f.varint()
			value = strconv.Itoa(int(int32(n))) // as protobuf does: the low 32 bits
		case protoString, protoURI, protoURIRef:
			value, err = f.text()
		case protoBytes:
			var v []byte
			v, err = f.bytes()
			value = base64.StdEncoding.EncodeToString(v)
		case protoTimestamp:
			value, err = protoTime(f)
		default:
			return nil
		}
		values++
		return err
	})
	if err == nil && values > 1 {
		err = badProto("an attribute has more than one value")
	}
	return value, err
}

func protoTime(f field) (string, error) {
	b, err := f.bytes()
	if err != nil {
		return "", err
	}
	var seconds, nanos uint64
	err = eachField(b, 0, func(f field) (err error) {
		switch f.num {
		case protoSeconds:
			seconds, err = f.varint()
		case protoNanos:
			nanos, err = f.varint()
		default: // not ours
		}
		return err
	})
	if err != nil {
		return "", err
	}
	t := time.Unix(int64(seconds), int64(int32(nanos))).UTC()
	if n := int32(nanos); n < 0 || n > 999_999_999 || int64(seconds) < minSeconds || int64(seconds) > maxSeconds {
		return "", badProto("a timestamp is out of range")
	}
	return t.Format(time.RFC3339Nano), nil
}

// The range of google.protobuf.Timestamp: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
const minSeconds, maxSeconds = -62_135_596_800, 253_402_300_799

func decodeBatchProto(body []byte) ([]*message.Message, error) {
	var ms []*message.Message
	err := eachField(body, protoEvents, func(f field) error {
		if f.num != protoEvents {
			return nil
		}
		if len(ms) == MaxBatch {
			return tooMany()
		}
		b, err := f.bytes()
		if err != nil {
			return err
		}
		m, err := decodeProto(b)
		if err != nil {
			return &IndexError{len(ms), err}
		}
		ms = append(ms, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ms, nil
}

// appendProto writes one CloudEvent: fields by number, attributes by name, like protobuf's own
// deterministic encoding.
func appendProto(dst []byte, m *message.Message, gateway string) []byte {
	as := Attributes(m, gateway)
	if m.ContentType != "" {
		as = append(as, message.Property{Key: "datacontenttype", Value: m.ContentType})
	}
	var rest []message.Property
	var required [protoType + 1]string
	for _, a := range as {
		switch a.Key {
		case "id":
			required[protoID] = a.Value
		case "source":
			required[protoSource] = a.Value
		case "specversion":
			required[protoSpecVersion] = a.Value
		case "type":
			required[protoType] = a.Value
		default:
			rest = append(rest, a)
		}
	}
	for num := protowire.Number(protoID); num <= protoType; num++ {
		dst = appendProtoString(dst, num, required[num])
	}
	slices.SortFunc(rest, func(a, b message.Property) int { return cmp.Compare(a.Key, b.Key) })
	for _, a := range rest {
		entry := appendProtoString(nil, protoKey, a.Key)
		entry = protowire.AppendTag(entry, protoValue, protowire.BytesType)
		entry = protowire.AppendBytes(entry, protoAttributeValue(a))
		dst = protowire.AppendTag(dst, protoAttributes, protowire.BytesType)
		dst = protowire.AppendBytes(dst, entry)
	}
	return appendProtoPayload(dst, m)
}

func appendProtoPayload(dst []byte, m *message.Message) []byte {
	f := formOf(m.ContentType)
	switch {
	case len(m.Payload) == 0:
		return dst
	case isProtobuf(m.ContentType) && strings.HasPrefix(m.Event.DataSchema, typePrefix):
		wrapped := appendProtoString(nil, protoTypeURL, m.Event.DataSchema)
		wrapped = protowire.AppendTag(wrapped, protoBlob, protowire.BytesType)
		wrapped = protowire.AppendBytes(wrapped, m.Payload)
		dst = protowire.AppendTag(dst, protoAny, protowire.BytesType)
		return protowire.AppendBytes(dst, wrapped)
	case (f == formText || f == formJSON) && utf8.Valid(m.Payload):
		dst = protowire.AppendTag(dst, protoText, protowire.BytesType)
	default:
		dst = protowire.AppendTag(dst, protoBinary, protowire.BytesType)
	}
	return protowire.AppendBytes(dst, m.Payload)
}

func isProtobuf(contentType string) bool {
	t, _ := essence(contentType)
	return strings.EqualFold(t, Protobuf) || strings.EqualFold(t, "application/x-protobuf")
}

// appendProtoString writes a string field; what is not UTF-8 becomes U+FFFD, or no reader would take it.
func appendProtoString(dst []byte, num protowire.Number, s string) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, strings.ToValidUTF8(s, "\uFFFD"))
}

func protoAttributeValue(a message.Property) []byte {
	if n, ok := integer(a); ok {
		return protowire.AppendVarint(protowire.AppendTag(nil, protoInteger, protowire.VarintType), uint64(int64(n)))
	}
	switch a.Key {
	case "dataschema":
		return appendProtoString(nil, protoURI, a.Value)
	case "time":
		if t, err := time.Parse(time.RFC3339, strings.ToUpper(a.Value)); err == nil && t.Unix() >= minSeconds && t.Unix() <= maxSeconds {
			var ts []byte
			if s := t.Unix(); s != 0 {
				ts = protowire.AppendVarint(protowire.AppendTag(ts, protoSeconds, protowire.VarintType), uint64(s))
			}
			if n := t.Nanosecond(); n != 0 {
				ts = protowire.AppendVarint(protowire.AppendTag(ts, protoNanos, protowire.VarintType), uint64(n))
			}
			return protowire.AppendBytes(protowire.AppendTag(nil, protoTimestamp, protowire.BytesType), ts)
		}
	}
	return appendProtoString(nil, protoString, a.Value)
}

func encodeBatchProto(ms []*message.Message, gateway string) []byte {
	var dst []byte
	for _, m := range ms {
		dst = protowire.AppendTag(dst, protoEvents, protowire.BytesType)
		dst = protowire.AppendBytes(dst, appendProto(nil, m, gateway))
	}
	return dst
}
