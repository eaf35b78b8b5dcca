package codec

import (
	"strings"

	"edgepost/appliance/message"
)

// Media types of the structured and the batched CloudEvents formats.
const (
	EventJSON     = "application/cloudevents+json"
	EventXML      = "application/cloudevents+xml"
	EventProtobuf = "application/cloudevents+protobuf"
	BatchJSON     = "application/cloudevents-batch+json"
	BatchXML      = "application/cloudevents-batch+xml"
	BatchProtobuf = "application/cloudevents-batch+protobuf"
)

// Media types of payloads.
const (
	JSON     = "application/json"
	XML      = "application/xml"
	Protobuf = "application/protobuf"
	Text     = "text/plain"
	Octets   = "application/octet-stream"
)

// IsEvent reports whether the media type, parameters or not, is a structured event.
func IsEvent(mediaType string) bool {
	t, _ := essence(mediaType)
	return foldPrefix(t, "application/cloudevents+")
}

// CanDecode reports whether [DecodeEvent] knows the format of the media type.
func CanDecode(mediaType string) bool {
	_, err := structured(mediaType, EventJSON, EventXML, EventProtobuf)
	return err == nil
}

// IsBatch reports whether the media type, parameters or not, is a batch of events.
func IsBatch(mediaType string) bool {
	t, _ := essence(mediaType)
	return foldPrefix(t, "application/cloudevents-batch+")
}

// essence returns type/subtype as it was written, and the charset parameter in its own spelling.
func essence(mediaType string) (typ, charset string) {
	typ, rest, more := strings.Cut(mediaType, ";")
	for more {
		var p string
		p, rest, more = strings.Cut(rest, ";")
		if k, v, _ := strings.Cut(p, "="); strings.EqualFold(strings.TrimSpace(k), "charset") {
			charset = strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return strings.TrimSpace(typ), charset
}

// structured picks the format of a structured media type. The error is bad-media-type.
func structured(mediaType string, known ...string) (string, error) {
	t, charset := essence(mediaType)
	if !utf8Charset(charset) {
		return "", message.Problemf(message.CodeBadMediaType, "the charset %.40q is not supported; send UTF-8", charset)
	}
	for _, k := range known {
		if strings.EqualFold(t, k) {
			return k, nil
		}
	}
	return "", message.Problemf(message.CodeBadMediaType, "the media type %.80q is not supported here; use one of %s", t, strings.Join(known, ", "))
}

func utf8Charset(c string) bool {
	return c == "" || strings.EqualFold(c, "utf-8") || strings.EqualFold(c, "utf8") || strings.EqualFold(c, "us-ascii")
}

// form is how a payload of some content type may be shown.
type form uint8

const (
	formBinary  form = iota
	formText         // text in UTF-8
	formJSON         // a JSON value (CloudEvents JSON format §3.1.1: */json or +json)
	formUnknown      // no content type
)

// formOf allocates nothing.
func formOf(contentType string) form {
	if contentType == "" {
		return formUnknown
	}
	t, charset := essence(contentType)
	if !utf8Charset(charset) {
		return formBinary
	}
	_, sub, _ := strings.Cut(t, "/")
	switch {
	case strings.EqualFold(sub, "json"), foldSuffix(sub, "+json"):
		return formJSON
	case foldPrefix(t, "text/"), strings.EqualFold(sub, "xml"), foldSuffix(sub, "+xml"), foldSuffix(sub, "+yaml"):
		return formText
	}
	if foldPrefix(t, "application/") {
		for _, s := range [...]string{
			"yaml", "x-yaml", "toml", "javascript", "ecmascript", "sql", "graphql", "x-sh",
			"x-ndjson", "jsonl", "json-seq", "x-www-form-urlencoded", "sdp",
		} {
			if strings.EqualFold(sub, s) {
				return formText
			}
		}
	}
	return formBinary
}

func foldPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func foldSuffix(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}
