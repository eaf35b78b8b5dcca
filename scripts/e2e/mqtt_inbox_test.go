package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestMosquittoToNobody: before 5.0 nobody can be told that there is no such device. What was sent to it is a dead
// letter, and reaches the device once there is one.
func TestMosquittoToNobody(t *testing.T) {
	b := newBroker(t)
	app := b.addFreeKey()
	for _, q := range []string{"1", "2"} {
		b.mosquitto(t, "pub", "", "-V", "311", "-u", "app", "-P", app, "-t", "device/lamp9/in/set", "-q", q, "-m", "on"+q)
	}
	b.kill()
	b.start()
	type letter struct {
		Entry        uint64
		Subscription string
		Reason       string
	}
	var found []letter
	within(t, 20*time.Second, "no dead letters", func() bool { // they are settled within a second of the start
		found = nil
		for l := range strings.Lines(b.must(nil, "dead", "list", "-json")) {
			var d letter
			if err := json.Unmarshal([]byte(l), &d); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			found = append(found, d)
		}
		return len(found) == 2
	})
	if found[0].Subscription != "unaddressed" || found[0].Reason != `there is no device "lamp9"` {
		t.Fatalf("dead letters: %+v", found)
	}
	entry := func(i int) string { return fmt.Sprint(found[i].Entry) }
	if r := b.run("dead", "requeue", entry(0)); r.code == 0 || !strings.Contains(r.errout, "no device") {
		t.Errorf("requeued to nobody: exit %d, %s", r.code, r.errout)
	}
	tok := b.addDevice("lamp9")
	for i := range found {
		b.must(nil, "dead", "requeue", entry(i))
	}
	got := b.mosquitto(t, "sub", "", "-u", "lamp9", "-P", tok, "-t", "device/lamp9/in/#", "-q", "1", "-C", "2")
	if got != "on1\non2\n" {
		t.Errorf("the device got %q", got)
	}
	if left := strings.TrimSpace(b.must(nil, "dead", "list", "-json")); left != "" {
		t.Errorf("still dead: %s", left)
	}
}

// TestMosquittoQoS0 is what mosquitto_pub and Home Assistant send when nobody tells them otherwise: to a device that is
// away it waits like everything else, through kill -9.
func TestMosquittoQoS0(t *testing.T) {
	b := newBroker(t)
	tok := b.addDevice("tasmota_A1B2C3", "-profile", "tasmota")
	app := b.addFreeKey()
	for _, topic := range []string{"cmnd/tasmota_A1B2C3/POWER", "device/tasmota_A1B2C3/in/x"} {
		b.mosquitto(t, "pub", "", "-u", "app", "-P", app, "-t", topic, "-m", topic)
	}
	within(t, 20*time.Second, "not stored", func() bool { // there is no answer to QoS 0
		var d struct{ Inbox struct{ Depth int } }
		b.must(&d, "device", "show", "tasmota_A1B2C3", "-json")
		return d.Inbox.Depth == 2
	})
	b.kill()
	b.start()
	got := b.mosquitto(t, "sub", "", "-u", "tasmota_A1B2C3", "-P", tok, "-q", "1", "-t", "cmnd/tasmota_A1B2C3/#", "-t", "device/tasmota_A1B2C3/in/#",
		"-C", "2", "-F", "%t %p %q")
	if got != "cmnd/tasmota_A1B2C3/POWER cmnd/tasmota_A1B2C3/POWER 0\ndevice/tasmota_A1B2C3/in/x device/tasmota_A1B2C3/in/x 0\n" {
		t.Errorf("the device got %q", got)
	}
}
