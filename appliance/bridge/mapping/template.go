package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"edgepost/appliance/message"
)

// Template is a parsed template. The zero value gives the empty string.
type Template struct {
	source string
	parts  []part
}

// part is fixed text, or a variable: all of it, one level, or the levels from one on.
type part struct {
	text string
	name string // "" for text
	cut  cut
	from int
}

type cut uint8

const (
	whole cut = iota
	level
	rest
)

// Names of the variables.
const (
	Gateway = "gw"
	Bridge  = "bridge"
	Topic   = "topic"
	Device  = "device"
	Key     = "key"
	Subject = "subject"
)

// maxLevel is far above what a topic of 64 KiB that people wrote has.
const maxLevel = 100

// ParseTemplate reads a template in which only the given variables stand.
func ParseTemplate(s string, known ...string) (Template, error) {
	t := Template{source: s}
	for s != "" {
		text, after, found := strings.Cut(s, "${")
		if text != "" {
			t.parts = append(t.parts, part{text: text})
		}
		if !found {
			break
		}
		name, more, closed := strings.Cut(after, "}")
		if !closed {
			return Template{}, fmt.Errorf("%.80q: \"${\" has no \"}\"", t.source)
		}
		p, err := parseVariable(name, known)
		if err != nil {
			return Template{}, fmt.Errorf("%.80q: %w", t.source, err)
		}
		t.parts = append(t.parts, p)
		s = more
	}
	return t, nil
}

func parseVariable(s string, known []string) (part, error) {
	name, index, cutOff := strings.Cut(s, "[")
	p := part{name: name}
	ok := false
	for _, k := range known {
		ok = ok || k == name
	}
	if !ok {
		return p, fmt.Errorf("there is no ${%.40s} here; there are ${%s}", s, strings.Join(known, "}, ${"))
	}
	if !cutOff {
		return p, nil
	}
	p.cut = level
	index, closed := strings.CutSuffix(index, "]")
	if i, open := strings.CutSuffix(index, ":"); open {
		p.cut, index = rest, i
	}
	n, err := strconv.Atoi(index)
	if err != nil || !closed || n < 0 || n > maxLevel {
		return p, fmt.Errorf("${%.40s} is not understood; one level is ${%s[2]}, the rest from there ${%s[2:]}, counted from 0", s, name, name)
	}
	p.from = n
	return p, nil
}

// String returns the template as it was written.
func (t Template) String() string { return t.source }

// IsZero reports whether nothing was written.
func (t Template) IsZero() bool { return t.source == "" }

// Uses reports whether the variable stands in the template.
func (t Template) Uses(name string) bool {
	for _, p := range t.parts {
		if p.name == name {
			return true
		}
	}
	return false
}

var errMissing = errors.New("the message has none")

// Fill puts the values in. get returns "" for what a message does not have.
func (t Template) Fill(get func(name string) string) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		v := get(p.name)
		if p.cut != whole {
			v = p.of(v)
		}
		if v == "" {
			return "", fmt.Errorf("template %.80q needs %s: %w", t.source, p.String(), errMissing)
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

func (p part) String() string {
	switch p.cut {
	case level:
		return fmt.Sprintf("${%s[%d]}", p.name, p.from)
	case rest:
		return fmt.Sprintf("${%s[%d:]}", p.name, p.from)
	default:
		return "${" + p.name + "}"
	}
}

// of cuts a value into levels.
func (p part) of(v string) string {
	for range p.from {
		_, after, ok := strings.Cut(v, "/")
		if !ok {
			return ""
		}
		v = after
	}
	if p.cut == level {
		v, _, _ = strings.Cut(v, "/")
	}
	return v
}

// Filter is a topic filter that selects whatever the template can give: to see whether what a bridge
// sends could come back to it.
func (t Template) Filter() message.Filter {
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p.name == "":
			b.WriteString(p.text)
		case p.cut == level || p.name == Gateway || p.name == Bridge || p.name == Device:
			b.WriteByte('+')
		default:
			return message.Filter(openEnd(b.String()))
		}
	}
	levels := strings.Split(b.String(), "/")
	for i, l := range levels {
		if strings.Contains(l, "+") {
			levels[i] = "+"
		}
	}
	return message.Filter(strings.Join(levels, "/"))
}

// openEnd is a filter for everything that begins with the text: whole levels of it.
func openEnd(s string) string {
	levels := strings.Split(s, "/")
	levels[len(levels)-1] = "#"
	for i, l := range levels {
		if strings.Contains(l, "+") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}
