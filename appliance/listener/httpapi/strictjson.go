package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// maxJSONDepth is how deep a request's JSON may nest: the deepest of ours has three levels.
const maxJSONDepth = 16

// unmarshalStrict decodes one JSON document. Members that v does not know, members given twice, also
// in another case of letters, trailing bytes and broken UTF-8 are errors that say where.
func unmarshalStrict(b []byte, v any) error {
	if !utf8.Valid(b) {
		return message.Problemf(message.CodeBadUTF8, "the body is not valid UTF-8")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return message.Problemf(message.CodeBadJSON, "the body is empty; it must be a JSON object")
	}
	if err := checkMembers(b); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case message.ProblemOf(err) != nil:
		return err
	case errors.As(err, &wrong):
		where := "the body"
		if wrong.Field != "" {
			where = fmt.Sprintf("%q", wrong.Field)
		}
		return message.Problemf(message.CodeBadJSON, "%s has a %s where %s belongs", where, wrong.Value, kindOf(wrong))
	}
	return message.Problemf(message.CodeBadJSON, "%s", strings.TrimPrefix(err.Error(), "json: "))
}

// kindOf says in JSON's words what a field wants.
func kindOf(e *json.UnmarshalTypeError) string {
	switch k := e.Type.Kind().String(); {
	case k == "string", k == "bool":
		return "a " + k
	case strings.HasPrefix(k, "int"), strings.HasPrefix(k, "uint"):
		return "a whole number in range"
	case k == "slice":
		return "an array"
	}
	return "an object"
}

// level is one open object or array.
type level struct {
	names map[string]bool // nil in an array
	name  bool            // the next string is a member's name
}

// checkMembers walks the tokens of one document.
func checkMembers(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	var open []level
	for values := 0; ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) && values == 1 && len(open) == 0 {
			return nil
		}
		if err != nil {
			return message.Problemf(message.CodeBadJSON, "the body is not JSON: %v at byte %d", err, dec.InputOffset())
		}
		if values == 1 && len(open) == 0 {
			return message.Problemf(message.CodeBadJSON, "the body goes on after its JSON ends, at byte %d", dec.InputOffset())
		}
		top := len(open) - 1
		if s, ok := tok.(string); ok && top >= 0 && open[top].name {
			if err := open[top].add(s); err != nil {
				return err
			}
			continue
		}
		switch tok {
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
			top--
		case json.Delim('{'), json.Delim('['):
			if len(open) == maxJSONDepth {
				return message.Problemf(message.CodeBadJSON, "the body nests deeper than %d levels", maxJSONDepth)
			}
			next := level{}
			if tok == json.Delim('{') {
				next = level{names: make(map[string]bool), name: true}
			}
			open = append(open, next)
			continue
		}
		// A whole value ended.
		if top < 0 {
			values++
		} else {
			open[top].name = open[top].names != nil
		}
	}
}

func (l *level) add(name string) error {
	folded := strings.ToLower(name)
	if l.names[folded] {
		return message.Problemf(message.CodeBadJSON, "the member %.60q is there twice", name)
	}
	l.names[folded] = true
	l.name = false
	return nil
}

// span is a duration in a JSON document: a number of seconds, or a string as in headers.
type span time.Duration

// UnmarshalJSON reads a whole number of seconds or a string.
func (s *span) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	d, err := parseDuration("duration", text, message.MaxTTL)
	*s = span(d)
	return err
}
