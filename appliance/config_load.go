package appliance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"edgepost/appliance/message"
)

// maxConfigBytes is far above any real configuration: a wrong file (a device, an image) is refused
// before it is read.
const maxConfigBytes = 1 << 20

// LoadConfig reads a configuration file (TOML 1.0, UTF-8, at most 1 MiB). Keys that it does not set
// stay zero, so that flags can be laid over it before [Config.WithDefaults]. What is wrong with the
// contents is returned as [Mistakes], all at once, each with its line and key; a file that cannot
// be read is one mistake that wraps nothing.
func LoadConfig(path string) (Config, error) {
	c, _, err := LoadConfigText(path)
	return c, err
}

// LoadConfigText is [LoadConfig], and returns the file's text, for [Options].
func LoadConfigText(path string) (Config, string, error) {
	text, err := readConfig(path)
	if err != nil {
		return Config{}, "", Mistakes{{File: path, Detail: err.Error()}}
	}
	c, err := parseConfig(path, text)
	if err != nil {
		return Config{}, "", err
	}
	return c, text, nil
}

func readConfig(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok { // it names the file again
			err = pe.Err
		}
		return "", fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok { // it names the file again
			err = pe.Err
		}
		return "", fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxConfigBytes {
		return "", fmt.Errorf("the file is larger than %s; is it a configuration?", FormatSize(maxConfigBytes))
	}
	return string(text), nil
}

// parseConfig reads the text of a configuration file; file only names it in mistakes.
func parseConfig(file, text string) (Config, error) {
	var c Config
	table := map[string]any{}
	if _, err := toml.Decode(text, &table); err != nil {
		var pe toml.ParseError
		if !errors.As(err, &pe) {
			return c, Mistakes{{File: file, Detail: err.Error()}}
		}
		return c, Mistakes{syntaxMistake(file, text, pe)}
	}
	l := loader{lines: keyLines(text)}
	l.section("", table, reflect.ValueOf(&c).Elem())
	l.addNew(c.mistakes())
	if len(l.found) == 0 {
		return c, nil
	}
	for i := range l.found {
		l.found[i].File = file
		l.found[i].Line = l.line(l.found[i].Key)
	}
	slices.SortStableFunc(l.found, func(a, b Mistake) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Key, b.Key)
	})
	return Config{}, l.found
}

// syntaxMistake places the decoder's complaint. Its own key is the last one that it finished, so the
// key comes from our walk; and a line that ends too early is blamed, not the next one.
func syntaxMistake(file, text string, pe toml.ParseError) Mistake {
	m := Mistake{File: file, Line: pe.Position.Line, Detail: pe.Message}
	if strings.Contains(pe.Message, `got '\n'`) && m.Line > 1 {
		m.Line--
	}
	for _, k := range keyPlaces(text) {
		if k.line == m.Line {
			m.Key = k.key
		}
	}
	return m
}

// loader moves a decoded file into a [Config], by the fields' `key` tags.
type loader struct {
	checker
	lines map[string]int // by dotted key, from [keyLines]
}

// line returns the line of the key, or of the closest thing around it: a key that is missing is
// reported at its section.
func (l *loader) line(key string) int {
	for key != "" {
		if n, ok := l.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// addNew adds the mistakes about keys that have none yet.
func (l *loader) addNew(ms Mistakes) {
	for _, m := range ms {
		if !slices.ContainsFunc(l.found, func(o Mistake) bool {
			return o.Key == m.Key || strings.HasPrefix(o.Key, m.Key+"[") || strings.HasPrefix(m.Key, o.Key+"[")
		}) {
			l.found = append(l.found, m)
		}
	}
}

// fieldOf returns the field whose tag is name.
func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for i, t := 0, v.Type(); i < t.NumField(); i++ {
		if keyOf(t.Field(i)) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keyOf(f reflect.StructField) string {
	if k := f.Tag.Get("key"); k != "" {
		return k
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",") // message.Rules
	return name
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = keyOf(t.Field(i))
	}
	return keys
}

// section sets the fields of one section from its table.
func (l *loader) section(prefix string, table map[string]any, into reflect.Value) {
	for name, val := range table {
		key := prefix + quoteKey(name)
		field, ok := fieldOf(into, name)
		if !ok {
			l.unknown(key, name, val, into.Type())
			continue
		}
		l.set(key, val, field)
	}
}

func (l *loader) unknown(key, name string, val any, section reflect.Type) {
	what := "key"
	if isTable(val) {
		what = "section"
	}
	allowed := keysOf(section)
	if near := Nearest(name, allowed); near != "" {
		l.mistake(key, "unknown %s; did you mean %q?", what, near)
		return
	}
	slices.Sort(allowed)
	l.mistake(key, "unknown %s; known here: %s", what, strings.Join(allowed, ", "))
}

func isTable(val any) bool {
	switch val.(type) {
	case map[string]any, []map[string]any:
		return true
	}
	return false
}

// set gives one field its value, or says what the key allows.
func (l *loader) set(key string, val any, field reflect.Value) {
	var err error
	switch p := field.Addr().Interface().(type) {
	case *bool:
		b, ok := val.(bool)
		if *p = b; !ok {
			err = wrongType("true or false", val)
		}
	case *string:
		*p, err = text(val)
	case *message.Filter:
		var s string
		s, err = text(val)
		*p = message.Filter(s)
	case *int:
		*p, err = count(val)
	case *int64:
		*p, err = size(val)
	case *time.Duration:
		*p, err = duration(val)
	case *[]string:
		*p = listOf[string](l, key, val)
	case *map[string]string:
		*p = l.options(key, val)
	case *[]message.Filter:
		*p = listOf[message.Filter](l, key, val)
	default:
		if field.Kind() == reflect.Slice {
			l.sections(key, val, field)
			return
		}
		table, ok := val.(map[string]any)
		if !ok {
			l.mistake(key, "it is a section; write [%s] on a line of its own and its keys below", key)
			return
		}
		l.section(key+".", table, field)
	}
	if err != nil {
		l.mistake(key, "%s", err)
	}
}

// sections sets a list of sections, [[key]].
func (l *loader) sections(key string, val any, into reflect.Value) {
	tables, ok := val.([]map[string]any)
	if list, isList := val.([]any); isList && len(list) == 0 {
		ok = true
	}
	if !ok {
		l.mistake(key, "it is a list of sections; write [[%s]] on a line of its own and its keys below", key)
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(tables), len(tables)))
	for i, t := range tables {
		l.section(at(key, i)+".", t, into.Index(i))
	}
}

// options reads a section whose keys somebody else checks.
func (l *loader) options(key string, val any) map[string]string {
	table, ok := val.(map[string]any)
	if !ok {
		l.mistake(key, "it is a section; write [%s] on a line of its own and its keys below", key)
		return nil
	}
	out := make(map[string]string, len(table))
	for name, v := range table {
		switch v := v.(type) {
		case string:
			out[name] = v
		case int64, bool:
			out[name] = fmt.Sprint(v)
		default:
			l.mistake(key+"."+quoteKey(name), "%s", wrongType("a string, a whole number, true or false", v))
		}
	}
	return out
}

func listOf[T ~string](l *loader, key string, val any) []T {
	list, ok := val.([]any)
	if !ok {
		l.mistake(key, "%s", wrongType("a list such as [\"a\", \"b\"]", val))
		return nil
	}
	out := make([]T, 0, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			l.mistake(at(key, i), "%s", wrongType("a string", v))
			return nil
		}
		out = append(out, T(s))
	}
	return out
}

func text(val any) (string, error) {
	s, ok := val.(string)
	if !ok {
		return "", wrongType("a string in quotes", val)
	}
	return s, nil
}

func count(val any) (int, error) {
	n, ok := val.(int64)
	if !ok {
		return 0, wrongType("a whole number", val)
	}
	if n < 0 || n != int64(int32(n)) {
		return 0, fmt.Errorf("%d is out of range", n)
	}
	return int(n), nil
}

func size(val any) (int64, error) {
	switch v := val.(type) {
	case int64:
		if v < 0 {
			return 0, fmt.Errorf("%d is out of range; a size is not negative", v)
		}
		return v, nil
	case string:
		return ParseSize(v)
	}
	return 0, wrongType("a number of bytes or a size such as \"64KiB\"", val)
}

func duration(val any) (time.Duration, error) {
	switch v := val.(type) {
	case int64:
		return ParseDuration(fmt.Sprint(v))
	case string:
		return ParseDuration(v)
	}
	return 0, wrongType("a number of seconds or a duration such as \"10m\"", val)
}

func wrongType(want string, val any) error {
	got := "a date"
	switch val.(type) {
	case bool:
		got = "a boolean"
	case string:
		got = "a string"
	case int64:
		got = "a whole number"
	case float64:
		got = "a fraction"
	case []any:
		got = "a list"
	case map[string]any, []map[string]any:
		got = "a section"
	}
	return fmt.Errorf("it is %s; it must be %s", got, want)
}

// Nearest returns the word in among that word is most likely a misspelling of, or "".
func Nearest(word string, among []string) string {
	best, least := "", max(1, min(len(word)/3, 3))+1
	for _, w := range among {
		if d := edits(word, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// edits is the optimal string alignment distance of a and b in bytes, a swap of neighbours counted
// as one; words longer than 64 bytes are nobody's misspelling.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var before, last, row [65]int
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
