package auth

import (
	"testing"

	"edgepost/appliance/message"
)

// A role's rules hold for whom it names and for the devices of its groups, beside their own; deny wins over all of them.
func TestRoles(t *testing.T) {
	_, b, ft := fixture(nil)
	b.put(Entry{Kind: User, Name: "ann"}, "")
	b.put(Entry{Kind: Device, Name: "other", Rules: message.Rules{Publish: []message.Filter{"own/#"}}}, "ep_other")
	a := New(Options{Directory: b, Now: ft.now, Roles: []Role{
		{Name: "sensors", Groups: []string{"hall"}, Users: []string{"ann"}, Rules: message.Rules{
			Publish: []message.Filter{"sensor/${device}/#"}, Subscribe: []message.Filter{"time/#"}, DenySubscribe: []message.Filter{"cmnd/lamp1/secret"},
		}},
		{Name: "readers", Devices: []string{"other"}, Keys: []string{"app"}, Rules: message.Rules{Subscribe: []message.Filter{"news/#"}, DenyPublish: []message.Filter{"own/x"}}},
	}})
	for _, c := range []struct {
		who      string
		publish  map[message.Topic]bool
		received map[message.Topic]bool
	}{
		{
			"device/lamp1",
			map[message.Topic]bool{"sensor/lamp1/t": true, "sensor/other/t": false, "device/lamp1/out/x": true, "tele/lamp1/x": true},
			map[message.Topic]bool{"time/now": true, "news/1": false, "cmnd/lamp1/on": true, "cmnd/lamp1/secret": false},
		},
		{"device/other", map[message.Topic]bool{"sensor/other/t": false, "own/y": true, "own/x": false}, map[message.Topic]bool{"news/1": true, "time/now": false}},
		{"key/app", map[message.Topic]bool{"device/a/in/x": true, "own/y": false}, map[message.Topic]bool{"news/1": true, "private/x": false}},
		{"key/root", map[message.Topic]bool{"own/y": false}, map[message.Topic]bool{"news/1": false}},
		{"user/ann", map[message.Topic]bool{"sensor/ann/t": false}, map[message.Topic]bool{"time/now": true}},
	} {
		g, ok := a.Current(c.who)
		if !ok {
			t.Fatalf("there is no %s", c.who)
		}
		for topic, want := range c.publish {
			if g.MayPublish(topic) != want {
				t.Errorf("%s publishes to %s: %v", c.who, topic, !want)
			}
		}
		for topic, want := range c.received {
			if g.MayReceive(topic) != want {
				t.Errorf("%s receives %s: %v", c.who, topic, !want)
			}
		}
	}
	e, _ := b.Lookup("lamp1")
	if len(e.Rules.Publish) != 1 {
		t.Errorf("the register's own rules have grown: %v", e.Rules)
	}
}
