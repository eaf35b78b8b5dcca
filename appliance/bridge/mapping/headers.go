package mapping

import (
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// Prefixes of an event's attributes in the headers of protocols whose own names could be mixed up with them.
const (
	Colon      = "cloudEvents:" // AMQP binding of CloudEvents 1.0.2 §3.1.3
	Underscore = "cloudEvents_" // the same, for JMS selectors, which know no colon
	KafkaStyle = "ce_"          // Kafka binding 1.0.2 §3.1.3
)

// specVersion is the attribute without which nothing is an event.
const specVersion = "specversion"

// WriteHeaders calls set for each header: an event's attributes have the prefix, other properties have not.
func (w *Wire) WriteHeaders(prefix string, set func(name, value string)) {
	if !w.Event {
		prefix = ""
	}
	for _, h := range w.Headers {
		set(prefix+h.Key, h.Value)
	}
}

// ReadHeaders fills in Headers from those that came. They are an event in binary mode when one of the prefixes has a
// version; then only its attributes count. Text that is not UTF-8 no property can hold: it is left away.
func (w *Wire) ReadHeaders(all iter.Seq2[string, string], prefixes ...string) {
	prefix := ""
	for name := range all {
		for _, p := range prefixes {
			if name == p+specVersion {
				w.Event, prefix = true, p
			}
		}
	}
	for name, value := range all {
		if short, is := strings.CutPrefix(name, prefix); is && utf8.ValidString(value) {
			w.Headers = append(w.Headers, message.Property{Key: short, Value: value})
		}
	}
}

// Text is a header's value as a property holds it: applications put numbers and times there, too. false: it is none
// that a property can hold, such as the tables in which a broker keeps its notes.
func Text(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case []byte:
		return string(v), true
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), true
	}
	if k := reflect.TypeOf(v).Kind(); k == reflect.Map || k == reflect.Slice {
		return "", false
	}
	return fmt.Sprint(v), true
}

// Texts are the headers of a table that hold text, by name.
func Texts(table map[string]any) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, name := range slices.Sorted(maps.Keys(table)) {
			if s, ok := Text(table[name]); ok && !yield(name, s) {
				return
			}
		}
	}
}
