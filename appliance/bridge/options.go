package bridge

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"edgepost/appliance/bridge/mapping"
)

// Option is one key of [bridge.options].
type Option struct {
	Name, Help string
	Default    string   // when it is not written, or empty
	Empty      bool     // an empty one has a meaning of its own
	OneOf      []string // what it may be; none: anything
	Least      int      // with Most; 0 is 1
	Most       int      // it is a whole number up to this, see [Config.Number]; 0: it is not
	Template   bool     // ${gw} and ${bridge} in it are filled in
}

// optionVars are the variables of options.
var optionVars = []string{mapping.Gateway, mapping.Bridge} // never written

func (o *Option) check(s string, mistake Mistake) {
	key := "options." + o.Name
	if s == "" {
		return
	}
	if n, err := strconv.Atoi(s); o.Most > 0 && (err != nil || n < max(o.Least, 1) || n > o.Most) {
		mistake(key, "%.40q is out of range; %d to %d", s, max(o.Least, 1), o.Most)
	}
	if len(o.OneOf) > 0 && !slices.Contains(o.OneOf, s) {
		mistake(key, "%.40q is not known; there are %s", s, strings.Join(o.OneOf, ", "))
	}
	if o.Template {
		template(key, s, optionVars, mistake)
	}
}

func (c *Config) checkOptions(kind *Kind, mistake Mistake) {
	names := make([]string, 0, len(kind.Options))
	for i := range kind.Options {
		o := &kind.Options[i]
		names = append(names, o.Name)
		o.check(c.Options[o.Name], mistake)
	}
	for name := range c.Options {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			mistake("options."+name, "the connector %s has no options", c.Kind)
		default:
			mistake("options."+name, "unknown option of %s; known here: %s", c.Kind, strings.Join(names, ", "))
		}
	}
}

// Dialer makes the dialer of a bridge that [Config.Check] found nothing wrong with.
func (k *Kind) Dialer(c Config, here mapping.Here) (Dialer, error) {
	here.Bridge = c.Name
	if c.Options = maps.Clone(c.Options); c.Options == nil {
		c.Options = make(map[string]string)
	}
	for _, o := range k.Options {
		if s, ok := c.Options[o.Name]; !ok || s == "" && !o.Empty {
			c.Options[o.Name] = o.Default
		}
		if !o.Template {
			continue
		}
		filled, err := here.Fill(c.Options[o.Name])
		if err != nil {
			return nil, err
		}
		c.Options[o.Name] = filled
	}
	return k.Open(&c, here)
}

// Number returns a whole number among the options, 0 when it is not set. [Config.Check] has looked at it.
func (c *Config) Number(name string) int {
	n, _ := strconv.Atoi(c.Options[name])
	return n
}

// OneAddress is what up.to gives for every message; "" when that differs from message to message, or nothing goes out.
func (c *Config) OneAddress(here mapping.Here) string {
	if len(c.Up.Filters) == 0 {
		return ""
	}
	address, err := here.Fill(c.Up.To)
	if err != nil {
		return ""
	}
	return address
}
