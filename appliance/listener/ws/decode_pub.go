package ws

import (
	"bytes"
	"encoding/base64"
	"math"
	"strings"

	"edgepost/appliance/message"
)

func (r *request) decodePub(body []byte) error {
	r.msg = message.New("", nil)
	d := pubDecoder{m: r.msg}
	if err := each(body, "pub", d.member); err != nil {
		return err
	}
	return d.finish()
}

// pubDecoder collects a pub's members.
type pubDecoder struct {
	m      *message.Message
	topic  string
	forms  int // of data, text and data_base64
	isJSON bool
	isText bool
}

func (d *pubDecoder) member(key, v []byte) (bool, error) {
	m := d.m
	switch string(key) {
	case "topic":
		return true, text(v, key, &d.topic)
	case "data":
		d.forms++
		d.isJSON = true
		m.Payload = bytes.Clone(v)
		return true, nil
	case "text":
		d.forms++
		d.isText = true
		var s string
		err := text(v, key, &s)
		m.Payload = []byte(s)
		return true, err
	case "data_base64":
		d.forms++
		return true, base64Text(v, key, &m.Payload)
	case "ct":
		return true, text(v, key, &m.ContentType)
	case "key":
		return true, text(v, key, &m.Key)
	case "ttl":
		return true, duration(v, key, &m.TTL)
	case "delay":
		return true, duration(v, key, &m.Delay)
	case "priority":
		var n uint64
		err := unsigned(v, key, &n)
		m.Priority = uint8(min(n, math.MaxUint8)) // Message.Check names the range
		return true, err
	case "retain":
		return true, boolean(v, key, &m.Retain)
	case "volatile":
		return true, boolean(v, key, &m.Volatile)
	case "properties":
		return true, d.properties(v)
	case "response":
		return true, text(v, key, (*string)(&m.Response)) // Message.Check parses it
	case "correlation_base64":
		return true, base64Text(v, key, &m.Correlation)
	case "receipt":
		return true, d.receipt(v)
	}
	return false, nil
}

// properties reads {"k":"v","twice":["1","2"]}, the form in which messages carry them too.
func (d *pubDecoder) properties(v []byte) error {
	if v[0] != '{' {
		return badRequest("properties is not an object of strings")
	}
	return members(v, func(key, value []byte) error {
		if value[0] != '[' {
			return d.property(key, value)
		}
		return elements(value, func(e []byte) error { return d.property(key, e) })
	})
}

func (d *pubDecoder) property(key, value []byte) error {
	if value[0] != '"' {
		return badRequest("property %.40q is neither a string nor an array of strings", key)
	}
	if len(d.m.Properties) >= message.MaxProperties {
		return message.Problemf(message.CodeTooLarge, "the message has more than %d properties", message.MaxProperties)
	}
	d.m.Properties = append(d.m.Properties, message.Property{Key: string(key), Value: unquote(value)})
	return nil
}

func (d *pubDecoder) receipt(v []byte) error {
	switch string(v) {
	case `"each"`:
		d.m.Receipt = message.EachReceipt
	case `"final"`:
		d.m.Receipt = message.FinalReceipt
	default:
		return badRequest(`receipt is neither "each" nor "final"`)
	}
	return nil
}

func (d *pubDecoder) finish() error {
	if d.forms > 1 {
		return badRequest("pub has more than one of data, text and data_base64")
	}
	m := d.m
	switch {
	case d.isJSON && m.ContentType == "":
		m.ContentType = "application/json"
	case d.isJSON && !jsonType(m.ContentType):
		return badRequest("data is JSON but ct is %.60q; use text or data_base64", m.ContentType)
	case d.isText && m.ContentType == "":
		m.ContentType = "text/plain; charset=utf-8"
	}
	if m.Volatile {
		m.QoS = message.AtMostOnce
	}
	var err error
	m.Topic, err = message.ParseTopic(d.topic)
	return err
}

// jsonType reports whether a media type is JSON (RFC 6839 §3.1 for the suffix).
func jsonType(ct string) bool {
	ct, _, _ = strings.Cut(ct, ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	return ct == "application/json" || ct == "text/json" || strings.HasSuffix(ct, "+json")
}

func base64Text(v, key []byte, to *[]byte) error {
	var s string
	if err := text(v, key, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return badRequest("%s is not base64 (RFC 4648 §4, with padding)", key)
	}
	*to = raw
	return nil
}
