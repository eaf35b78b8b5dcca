// Package profile knows how devices that exist already speak MQTT, so that they work unmodified: which topics they publish
// and subscribe, and on which of them commands come. The profiles are rows of a file, profiles.toml, built into the program;
// "${device}" in a filter stands for the device's id, which has to be the name that the device has in its own topics.
package profile

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"edgepost/appliance/message"
)

//go:embed profiles.toml
var file string

// Placeholder stands for the device's id in a filter.
const Placeholder = "${device}"

// Profile is how one make of device speaks. It is immutable.
type Profile struct {
	Name      string           `json:"name" toml:"-"`
	About     string           `json:"about" toml:"about"`         // one line for people
	Publish   []message.Filter `json:"publish" toml:"publish"`     // what it may publish
	Subscribe []message.Filter `json:"subscribe" toml:"subscribe"` // what it may receive beside its commands
	Commands  []message.Filter `json:"commands" toml:"commands"`   // what it may receive and what joins its durable inbox
}

// Set is the profiles by name. Safe for concurrent reading.
type Set map[string]*Profile

// Load reads the built-in profiles. The error names the profile and the filter that is none; a test keeps it from happening.
func Load() (Set, error) { return Parse(file) }

// Parse reads profiles from the text of a TOML file: one table for each, its name is the profile's.
func Parse(text string) (Set, error) {
	var s Set
	md, err := toml.Decode(text, &s)
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("read profiles: unknown key %s", unknown[0])
	}
	for name, p := range s {
		if err := message.CheckName("profile name", name); err != nil {
			return nil, fmt.Errorf("read profiles: %w", err)
		}
		p.Name = name
		for _, f := range slices.Concat(p.Publish, p.Subscribe, p.Commands) {
			if _, err := message.ParseFilter(string(f)); err != nil {
				return nil, fmt.Errorf("read profile %s: filter %q: %w", name, f, err)
			}
		}
	}
	return s, nil
}

// Names lists the profiles, sorted.
func (s Set) Names() []string { return slices.Sorted(maps.Keys(s)) }

// Check refuses a name that no profile has; "" is none and fine. The error is a [message.Problem].
func (s Set) Check(name string) error {
	if name == "" || s[name] != nil {
		return nil
	}
	return message.Problemf(message.CodeBadRequest, "there is no profile %.40q; there are: %s", name, strings.Join(s.Names(), ", "))
}

// Rules adds to a device's own rules what its profile allows; an unknown profile adds nothing. The rules keep the placeholder.
func (s Set) Rules(name string, own message.Rules) message.Rules {
	p := s[name]
	if p == nil {
		return own
	}
	own.Publish = slices.Concat(p.Publish, own.Publish)
	own.Subscribe = slices.Concat(p.Subscribe, p.Commands, own.Subscribe)
	return own
}

// Inbox returns the filters that join the inbox of the device, its id filled in.
func (s Set) Inbox(name, device string) []message.Filter {
	p := s[name]
	if p == nil {
		return nil
	}
	out := make([]message.Filter, len(p.Commands))
	for i, f := range p.Commands {
		out[i] = message.Filter(strings.ReplaceAll(string(f), Placeholder, device))
	}
	return out
}
