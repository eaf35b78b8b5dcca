package cli

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance"
)

// line is a command line taken apart, before the command is known.
type line struct {
	plain []string // in order: the command's name, then its arguments
	ended int      // how many of plain came before --
	flags []given
	help  bool // -h or -help is among them
}

// given is one flag as it was written.
type given struct {
	name   string
	value  string
	valued bool
	next   int // index in plain of the word behind it
}

// names are the words that can name a command: those before --.
func (l *line) names() []string { return l.plain[:l.ended] }

// flagKinds says of every flag of every command whether it stands alone (true) or takes a value.
// One name is of one kind everywhere, so that a line can be taken apart before its command is known.
func flagKinds(table []*command) map[string]bool {
	kinds := map[string]bool{"data": false, "url": false, "token": false, "fingerprint": false, "cacert": false, "json": true, "h": true, "help": true}
	for _, c := range table {
		c.flags.VisitAll(func(f *flag.Flag) { kinds[f.Name] = isBool(f) })
	}
	return kinds
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// split takes the arguments apart. A flag that nobody knows stands alone; it is reported later.
func split(args []string, kinds map[string]bool) line {
	var l line
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			l.ended = len(l.plain)
			l.plain = append(l.plain, args[i+1:]...)
			return l
		}
		if len(a) < 2 || a[0] != '-' {
			l.plain = append(l.plain, a)
			continue
		}
		var g given
		g.name, g.value, g.valued = strings.Cut(strings.TrimPrefix(a[1:], "-"), "=")
		alone, known := kinds[g.name]
		if known && !alone && !g.valued && i+1 < len(args) {
			i++
			g.value, g.valued = args[i], true
		}
		g.next = len(l.plain)
		l.help = l.help || g.name == "h" || g.name == "help"
		l.flags = append(l.flags, g)
	}
	l.ended = len(l.plain)
	return l
}

// takeWord lets "-wait 10s" mean "-wait=10s": it moves the word behind the flag from the arguments
// to the flag when the arguments are then still complete. When only one of both can be meant but not
// said which, it asks.
func (l *line) takeWord(cmd *command, used int) error {
	for i := range l.flags {
		g := &l.flags[i]
		f := cmd.flags.Lookup(g.name)
		if f == nil || g.valued || g.next < used || g.next >= l.ended {
			continue
		}
		if _, optional := f.Value.(wait); !optional {
			continue
		}
		word := l.plain[g.next]
		if _, err := appliance.ParseDuration(word); err != nil {
			continue
		}
		if len(l.plain)-used <= len(strings.Fields(cmd.args)) {
			return usage(cmd.name, "%s: is %q what to %s, or the timeout? Write -%s=%s for the timeout, or the flag last", cmd.name, word, cmd.name, g.name, word)
		}
		g.value, g.valued = word, true
		l.plain = slices.Delete(l.plain, g.next, g.next+1)
		l.ended--
	}
	return nil
}

// parse gives the flags to the command, and the environment's values to what was not given.
func (c *call) parse(cmd *command, l line) error {
	fs := cmd.flags
	fs.StringVar(&c.data, "data", appliance.DefaultData, "`DIR` with the appliance's data")
	fs.BoolVar(&c.json, "json", false, "machine-readable output: one object, or one a line")
	if !cmd.local {
		fs.StringVar(&c.url, "url", "", "`URL` of an appliance elsewhere, such as http://192.168.1.1:8088")
		fs.StringVar(&c.token, "token", "", "`TOKEN` of a device or key")
		fs.StringVar(&c.fingerprint, "fingerprint", "", "trust the gateway whose `KEY` has it, at an https:// URL")
		fs.StringVar(&c.cacert, "cacert", "", "trust gateways that a certificate in `FILE` vouches for, at an https:// URL")
	}
	c.given = map[string]bool{}
	for _, g := range l.flags {
		f := fs.Lookup(g.name)
		if f == nil {
			return unknownFlag(cmd, g.name)
		}
		if !g.valued {
			if !isBool(f) {
				return usage(cmd.name, "%s: flag -%s needs a value", cmd.name, g.name)
			}
			g.value = "true"
		}
		if err := fs.Set(g.name, g.value); err != nil {
			return usage(cmd.name, "%s: flag -%s: %s", cmd.name, g.name, flagError(g.value, f, err))
		}
		c.given[g.name] = true
	}
	c.environment()
	return nil
}

// environment fills in what no flag said. -data on the line means this machine, whatever
// EDGEPOST_URL says.
func (c *call) environment() {
	if v := c.Getenv("EDGEPOST_URL"); v != "" && !c.given["url"] && !c.given["data"] {
		c.url = v
	}
	if v := c.Getenv("EDGEPOST_DATA"); v != "" && !c.given["data"] {
		c.data = v
	}
	if v := c.Getenv("EDGEPOST_TOKEN"); v != "" && !c.given["token"] {
		c.token = v
	}
	if !c.given["fingerprint"] && !c.given["cacert"] {
		c.fingerprint, c.cacert = c.Getenv("EDGEPOST_FINGERPRINT"), c.Getenv("EDGEPOST_CACERT")
	}
}

func unknownFlag(cmd *command, name string) error {
	var names []string
	cmd.flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	text := fmt.Sprintf("%s: unknown flag -%s", cmd.name, clip(name))
	if near := appliance.Nearest(name, names); near != "" {
		return &failure{exitUsage, text, fmt.Sprintf("did you mean -%s? see: edgepost help %s", near, cmd.name)}
	}
	if cmd.args != "" && strings.Trim(name, "0123456789.") == "" {
		return &failure{exitUsage, text, "write -- before arguments that begin with -"}
	}
	return usage(cmd.name, "%s", text)
}

// flagError words what the flag package says of numbers and booleans.
func flagError(value string, f *flag.Flag, err error) string {
	if ne := (*strconv.NumError)(nil); errors.As(err, &ne) || strings.HasPrefix(err.Error(), "parse error") || strings.HasPrefix(err.Error(), "value out of range") {
		want := "a whole number"
		if isBool(f) {
			want = "true or false"
		}
		return fmt.Sprintf("%q is not %s", clip(value), want)
	}
	return err.Error()
}

// list is a flag that may be given several times. What it holds is the appliance's to judge.
type list[T ~string] struct{ to *[]T }

func (l list[T]) String() string { return "" }

func (l list[T]) Set(s string) error {
	*l.to = append(*l.to, T(s))
	return nil
}

// span is a flag with a duration such as 90, 10m or 7d.
type span struct{ d *time.Duration }

func (s span) String() string { return "" }

func (s span) Set(v string) (err error) {
	*s.d, err = appliance.ParseDuration(v)
	return err
}

// wait is the flag -wait[=TIMEOUT].
type wait struct{ d *time.Duration }

const defaultWait = 10 * time.Second // long enough for a device on Wi-Fi that sleeps between beacons

func (w wait) String() string   { return "" }
func (w wait) IsBoolFlag() bool { return true }

func (w wait) Set(v string) (err error) {
	switch v {
	case "true":
		*w.d = defaultWait
	case "false":
		*w.d = 0
	default:
		if *w.d, err = appliance.ParseDuration(v); err == nil && (*w.d < time.Millisecond || *w.d > maxWait) {
			err = fmt.Errorf("%s is out of range; 1ms to %s", v, appliance.FormatDuration(maxWait))
		}
	}
	return err
}

// maxWait is how long the API holds one request.
const maxWait = time.Minute

// flagNames lists the flags of a command with the common ones, sorted.
func flagNames(cmd *command) []string {
	set := map[string]bool{"data": true, "json": true}
	if !cmd.local {
		set["url"], set["token"], set["fingerprint"], set["cacert"] = true, true, true, true
	}
	cmd.flags.VisitAll(func(f *flag.Flag) { set[f.Name] = true })
	return slices.Sorted(maps.Keys(set))
}
