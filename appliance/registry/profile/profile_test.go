package profile

import (
	"slices"
	"strings"
	"testing"

	"edgepost/appliance/message"
)

func TestBuiltInProfiles(t *testing.T) {
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Names(); !slices.Equal(got, []string{"esphome", "homeassistant", "shelly", "tasmota", "zigbee2mqtt"}) {
		t.Errorf("%v", got)
	}
	for name, p := range s {
		if p.Name != name || p.About == "" || len(p.Publish) == 0 {
			t.Errorf("%+v", p)
		}
		// A device may command itself and what its profile names, never another device of its kind.
		for _, f := range p.Publish {
			if name != "homeassistant" && f.Wild() && !strings.Contains(string(f), Placeholder) && f != "homeassistant/#" && f != "tasmota/discovery/#" {
				t.Errorf("%s may publish %s, which is not its own", name, f)
			}
		}
	}
}

// What each make really publishes, and on which topics its commands come.
func TestTopicsOfRealDevices(t *testing.T) {
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		profile, device   string
		publish, commands []message.Topic
		not               []message.Topic // neither
	}{
		{
			"tasmota", "tasmota_A1B2C3",
			[]message.Topic{"tele/tasmota_A1B2C3/LWT", "stat/tasmota_A1B2C3/RESULT", "tasmota/discovery/A0B1C2A1B2C3/config"},
			[]message.Topic{"cmnd/tasmota_A1B2C3/POWER", "cmnd/tasmotas/Status"},
			[]message.Topic{"cmnd/tasmota_X/POWER", "tele/tasmota_X/LWT"},
		},
		{
			"zigbee2mqtt", "zigbee2mqtt",
			[]message.Topic{"zigbee2mqtt/bridge/state", "zigbee2mqtt/kitchen", "homeassistant/light/0x1/light/config"},
			[]message.Topic{"zigbee2mqtt/kitchen/set", "zigbee2mqtt/kitchen/set/state", "zigbee2mqtt/kitchen/get", "zigbee2mqtt/kitchen/l1/set", "zigbee2mqtt/bridge/request/permit_join"},
			[]message.Topic{"other/kitchen/set"},
		},
		{
			"esphome", "porch",
			[]message.Topic{"porch/status", "porch/debug", "porch/light/lamp/state", "homeassistant/light/porch/lamp/config", "esphome/discover/porch"},
			[]message.Topic{"porch/light/lamp/command", "porch/cover/door/position/command", "porch/command/restart"},
			[]message.Topic{"attic/light/lamp/command"},
		},
		{
			"shelly", "shellyplus1-a8032abe54dc",
			[]message.Topic{"shellyplus1-a8032abe54dc/online", "shellyplus1-a8032abe54dc/events/rpc", "shellyplus1-a8032abe54dc/status/switch:0", "shellyplus1-a8032abe54dc/reply/rpc"},
			[]message.Topic{"shellyplus1-a8032abe54dc/rpc", "shellyplus1-a8032abe54dc/command/switch:0", "shellies/command"},
			[]message.Topic{"shellyplus1-b/rpc"},
		},
		{
			"shelly", "shelly1-A4CF12",
			[]message.Topic{"shellies/announce", "shellies/shelly1-A4CF12/online", "shellies/shelly1-A4CF12/relay/0"},
			[]message.Topic{"shellies/shelly1-A4CF12/relay/0/command", "shellies/shelly1-A4CF12/color/0/set", "shellies/command"},
			[]message.Topic{"shellies/other/relay/0/command"},
		},
		{
			"homeassistant", "ha",
			[]message.Topic{"homeassistant/status", "cmnd/tasmota_A1B2C3/POWER", "zigbee2mqtt/kitchen/set", "porch/light/lamp/command", "shellies/shelly1-A/relay/0/command", "shellyplus1-a/rpc", "device/lamp1/in/set"},
			nil,
			[]message.Topic{"$edge/alarm/x"},
		},
	} {
		r := s.Rules(c.profile, message.Rules{})
		inbox := s.Inbox(c.profile, c.device)
		fill := func(list []message.Filter) (out []message.Filter) {
			for _, f := range list {
				out = append(out, message.Filter(strings.ReplaceAll(string(f), Placeholder, c.device)))
			}
			return out
		}
		r.Publish, r.Subscribe = fill(r.Publish), fill(r.Subscribe)
		selected := func(by []message.Filter, t message.Topic) bool {
			return slices.ContainsFunc(by, func(f message.Filter) bool { return f.Match(t) })
		}
		for _, topic := range c.publish {
			if !r.MayPublish(topic) {
				t.Errorf("%s may not publish %s", c.profile, topic)
			}
		}
		for _, topic := range c.commands {
			if !r.MayReceive(topic) || !selected(inbox, topic) {
				t.Errorf("%s: the command %s does not join its inbox", c.profile, topic)
			}
		}
		for _, topic := range c.not {
			if r.MayPublish(topic) || selected(inbox, topic) {
				t.Errorf("%s: %s is another's", c.profile, topic)
			}
		}
	}
}

func TestUnknownProfile(t *testing.T) {
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(""); err != nil {
		t.Error(err)
	}
	if p := message.ProblemOf(s.Check("tasmoda")); p == nil || !strings.Contains(p.Detail, "tasmota") {
		t.Errorf("%v", p)
	}
	own := message.Rules{Publish: []message.Filter{"x"}}
	if got := s.Rules("gone", own); len(got.Publish) != 1 || s.Inbox("gone", "d") != nil {
		t.Errorf("%+v", got)
	}
}

func TestBadFiles(t *testing.T) {
	for _, text := range []string{"x", "[a]\npublish = [\"a#\"]", "[a]\nabuot = \"x\"", "[\"a/b\"]\nabout = \"x\"", "[a]\npublish = \"#\""} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
