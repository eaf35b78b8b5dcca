package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// parseDuration reads "90" (seconds), "10m" or "1m30s", from 0 to most. what names it in the error.
func parseDuration(what, s string, most time.Duration) (time.Duration, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	d := time.Duration(n) * time.Second
	switch {
	case err == nil && n > uint64(most/time.Second):
		d = -1
	case err != nil:
		if d, err = time.ParseDuration(s); err != nil {
			return 0, message.Problemf(message.CodeBadRequest, "%s %.40q is not a duration; use seconds (90) or units (10m, 1h30m, 500ms)", what, s)
		}
	}
	if d < 0 || d > most {
		return 0, message.Problemf(message.CodeBadRequest, "%s %.40q is out of range 0 to %v", what, s, most)
	}
	return d, nil
}

// describe fills a message from the Message-* headers and Idempotency-Key. An unknown Message-*
// header is refused, because a mistyped "Message-Prority" would lose its meaning silently.
func (a *api) describe(h http.Header, m *message.Message) error {
	for name, values := range h {
		if !strings.HasPrefix(name, "Message-") && name != "Idempotency-Key" {
			continue
		}
		if name == "Message-Property" {
			for _, v := range values {
				if err := addProperty(m, v); err != nil {
					return err
				}
			}
			continue
		}
		if len(values) != 1 {
			return message.Problemf(message.CodeBadRequest, "the header %.60s is there %d times; give it once", name, len(values))
		}
		if err := a.describeOne(m, name, values[0]); err != nil {
			return err
		}
	}
	if h.Get("Message-Delay") != "" && h.Get("Message-At") != "" {
		return message.Problemf(message.CodeBadRequest, "Message-Delay and Message-At are both there; give one")
	}
	return nil
}

func (a *api) describeOne(m *message.Message, name, v string) (err error) {
	switch name {
	case "Message-Priority":
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil || n > message.MaxPriority {
			return message.Problemf(message.CodeBadRequest, "Message-Priority %.40q is not a number from 0 to %d", v, message.MaxPriority)
		}
		m.Priority = uint8(n)
	case "Message-Ttl":
		if m.TTL, err = parseDuration("Message-TTL", v, message.MaxTTL); err == nil && m.TTL == 0 {
			return message.Problemf(message.CodeBadRequest, "Message-TTL 0 would expire at once; leave it out, or send Message-Durability: volatile to reach only who is connected now")
		}
	case "Message-Delay":
		m.Delay, err = parseDuration(name, v, message.MaxTTL)
	case "Message-At":
		m.Delay, err = a.until(v)
	case "Message-Retain":
		m.Retain, err = parseBool(name, v)
	case "Message-Durability":
		if v != "durable" && v != "volatile" {
			return message.Problemf(message.CodeBadRequest, "Message-Durability %.40q is neither durable nor volatile", v)
		}
		m.Volatile = v == "volatile"
	case "Message-Receipt":
		m.Receipt, err = parseReceipt(v)
	case "Idempotency-Key":
		m.Key, err = parseKey(v)
	default:
		return message.Problemf(message.CodeBadRequest, "the header %.60s is unknown; known: Message-Priority, -TTL, -Delay, -At, -Retain, -Durability, -Property, -Receipt", name)
	}
	return err
}

// until reads Message-At: RFC 3339 or Unix seconds. A time that has passed is now.
func (a *api) until(v string) (time.Duration, error) {
	at, err := time.Parse(time.RFC3339, v)
	if n, nerr := strconv.ParseInt(v, 10, 64); nerr == nil {
		at, err = time.Unix(n, 0), nil
	}
	if err != nil {
		return 0, message.Problemf(message.CodeBadRequest, "Message-At %.40q is neither RFC 3339 (2026-11-23T06:00:00Z) nor Unix seconds", v)
	}
	now, trusted := a.Now()
	if !trusted {
		return 0, message.Problemf(message.CodeUnavailable, "the gateway's clock is not set yet, so Message-At has no meaning; use Message-Delay")
	}
	d := at.Sub(now)
	if d > message.MaxTTL {
		return 0, message.Problemf(message.CodeBadRequest, "Message-At %.40q is more than %v ahead", v, message.MaxTTL)
	}
	return max(d, 0), nil
}

func parseBool(name, v string) (bool, error) {
	switch v {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, message.Problemf(message.CodeBadRequest, "%s %.40q is neither true nor false", name, v)
}

func parseReceipt(v string) (message.ReceiptMode, error) {
	switch v {
	case "each", "true":
		return message.EachReceipt, nil
	case "final":
		return message.FinalReceipt, nil
	case "none", "false":
		return message.NoReceipt, nil
	}
	return 0, message.Problemf(message.CodeBadRequest, "Message-Receipt %.40q is none of each, final, none", v)
}

func addProperty(m *message.Message, v string) error {
	key, value, ok := strings.Cut(v, "=")
	if key = strings.TrimSpace(key); !ok || key == "" {
		return message.Problemf(message.CodeBadRequest, "Message-Property %.60q is not key=value", v)
	}
	if !utf8.ValidString(v) {
		return message.Problemf(message.CodeBadUTF8, "Message-Property %.60q is not valid UTF-8", v)
	}
	if len(m.Properties) >= message.MaxProperties {
		return message.Problemf(message.CodeTooLarge, "the message has more than %d properties", message.MaxProperties)
	}
	m.Properties = append(m.Properties, message.Property{Key: key, Value: value})
	return nil
}

// parseKey reads Idempotency-Key: a structured-field string (draft-ietf-httpapi-idempotency-key-header
// §2.1, RFC 9651 §3.3.3), or the same without quotes as most clients send it. Both name the same key.
func parseKey(v string) (string, error) {
	bad := message.Problemf(message.CodeBadRequest, "Idempotency-Key %.60q is not a string of visible characters, bare or in quotes", v)
	for i := 0; i < len(v); i++ {
		if v[i] < 0x20 || v[i] > 0x7e {
			return "", bad
		}
	}
	if !strings.HasPrefix(v, `"`) {
		if v == "" || strings.ContainsAny(v, `",`) {
			return "", bad
		}
		return v, nil
	}
	var key []byte
	for i := 1; i < len(v); i++ {
		switch c := v[i]; c {
		case '"':
			if i != len(v)-1 || len(key) == 0 {
				return "", bad
			}
			return string(key), nil
		case '\\':
			if i++; i == len(v) || v[i] != '"' && v[i] != '\\' {
				return "", bad
			}
			key = append(key, v[i])
		default:
			key = append(key, c)
		}
	}
	return "", bad
}
