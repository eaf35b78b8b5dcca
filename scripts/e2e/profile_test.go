package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// appliance of one make, as an MQTT client: which session it asks for, and what it subscribes when it is connected.
type make3 struct {
	id      string
	clean   bool
	filters []string
	will    string // topic of its last will
}

// connect3 connects as the device does and sends what it receives to the channel, "topic payload".
func (b *broker) connect3(t *testing.T, m make3, token string) (paho3.Client, chan string) {
	t.Helper()
	got := make(chan string, 100)
	o := paho3.NewClientOptions().AddBroker("tcp://" + b.mqtt).SetClientID("client-of-" + m.id).SetUsername(m.id).SetPassword(token).
		SetCleanSession(m.clean).SetAutoReconnect(false).SetConnectTimeout(20 * time.Second).
		SetDefaultPublishHandler(func(_ paho3.Client, p paho3.Message) { got <- p.Topic() + " " + string(p.Payload()) })
	if m.will != "" {
		o.SetWill(m.will, "offline", 1, true)
	}
	c := paho3.NewClient(o)
	done(t, c.Connect())
	for _, f := range m.filters {
		done(t, c.Subscribe(f, 0, nil)) // all of them subscribe at QoS 0
	}
	return c, got
}

func done(t *testing.T, tok paho3.Token) {
	t.Helper()
	if !tok.WaitTimeout(20 * time.Second) {
		t.Fatal("no answer in 20 s")
	}
	if err := tok.Error(); err != nil {
		t.Fatal(err)
	}
}

// TestProfiles has each make of device behave as it really does: it connects, subscribes its own topics, publishes its own, goes
// away, and gets what was commanded meanwhile, once, although its session is gone.
func TestProfiles(t *testing.T) {
	b := newBroker(t)
	app := b.api(b.addKey("app", "-publish", "#", "-subscribe", "#"))
	for profile, c := range map[string]struct {
		make3
		publish  []string
		commands []string
		not      string // another's topic
	}{
		"tasmota": {
			make3:    make3{"tasmota_A1B2C3", true, []string{"cmnd/tasmota_A1B2C3/#", "cmnd/tasmotas/#"}, "tele/tasmota_A1B2C3/LWT"},
			publish:  []string{"tele/tasmota_A1B2C3/LWT", "tele/tasmota_A1B2C3/STATE", "stat/tasmota_A1B2C3/RESULT", "tasmota/discovery/A1B2C3/config"},
			commands: []string{"cmnd/tasmota_A1B2C3/POWER", "cmnd/tasmotas/Status"}, not: "cmnd/tasmota_FFFFFF/POWER",
		},
		"zigbee2mqtt": {
			make3:    make3{"zigbee2mqtt", true, []string{"zigbee2mqtt/#", "homeassistant/status"}, "zigbee2mqtt/bridge/state"},
			publish:  []string{"zigbee2mqtt/bridge/info", "zigbee2mqtt/kitchen", "homeassistant/light/0x1/light/config"},
			commands: []string{"zigbee2mqtt/kitchen/set", "zigbee2mqtt/bridge/request/permit_join"}, not: "homeassistant/other",
		},
		"esphome": {
			make3:    make3{"porch", false, []string{"esphome/discover", "esphome/ping/porch", "porch/light/lamp/command", "porch/cover/door/position/command"}, "porch/status"},
			publish:  []string{"porch/status", "porch/debug", "porch/light/lamp/state", "homeassistant/light/porch/lamp/config"},
			commands: []string{"porch/light/lamp/command", "porch/cover/door/position/command"}, not: "attic/light/lamp/command",
		},
		"shelly": {
			make3:    make3{"shellyplus1-a8032a", true, []string{"shellyplus1-a8032a/rpc", "shellyplus1-a8032a/command", "shellyplus1-a8032a/command/+", "shellies/command"}, "shellyplus1-a8032a/online"},
			publish:  []string{"shellyplus1-a8032a/online", "shellyplus1-a8032a/events/rpc", "shellyplus1-a8032a/status/switch:0"},
			commands: []string{"shellyplus1-a8032a/rpc", "shellyplus1-a8032a/command/switch:0", "shellies/command"}, not: "shellyplus1-ffffff/rpc",
		},
	} {
		t.Run(profile, func(t *testing.T) {
			token := b.addDevice(c.id, "-profile", profile)
			device, got := b.connect3(t, c.make3, token)
			for _, topic := range c.publish {
				done(t, device.Publish(topic, 1, true, "state"))
				if !kept(t, app, topic) {
					t.Errorf("it cannot publish %s", topic)
				}
			}
			done(t, device.Publish(c.not, 1, false, "evil"))
			if c.not != "" && !strings.HasPrefix(c.not, "homeassistant/") && kept(t, app, c.not) {
				t.Errorf("it publishes %s", c.not)
			}
			app.publish(t, c.commands[0], "live")
			wantOnly(t, got, c.commands[0]+" live", c.publish)
			device.Disconnect(100)
			var want []string
			for i, topic := range c.commands {
				app.publish(t, topic, fmt.Sprint("away", i))
				want = append(want, fmt.Sprint(topic, " away", i))
			}
			again, got := b.connect3(t, c.make3, token)
			defer again.Disconnect(100)
			for range want {
				wantOnly(t, got, "", c.publish, want...)
			}
			last := app.publish(t, c.commands[0], "last").ID
			wantOnly(t, got, c.commands[0]+" last", c.publish) // and nothing came twice before it
			within(t, 20*time.Second, "the last command is not settled", func() bool {
				s := app.trace(t, last)["device/"+c.id].State
				return s == "sent" || s == "delivered"
			})
		})
	}
}

// wantOnly receives one message, leaving out the device's own, and compares: with want, or with one of several.
func wantOnly(t *testing.T, got chan string, want string, own []string, oneOf ...string) {
	t.Helper()
	for {
		m := receive(t, got)
		topic, _, _ := strings.Cut(m, " ")
		skip := false
		for _, o := range own {
			skip = skip || topic == o
		}
		if skip || strings.HasSuffix(m, " offline") {
			continue
		}
		for i, o := range oneOf {
			if m == o {
				oneOf[i] = ""
				return
			}
		}
		if m != want || want == "" {
			t.Fatalf("received %q, want %q or one of %q", m, want, oneOf)
		}
		return
	}
}

// kept reports whether a message on the topic is in the log.
func kept(t *testing.T, a *api, topic string) bool {
	t.Helper()
	var page struct{ Messages []struct{ Topic string } }
	a.want(t, 200, &page, "GET", "/v1/messages?topic="+strings.ReplaceAll(topic, "#", "%23"), nil)
	return len(page.Messages) > 0
}

// TestHomeAssistant reads what the others said before it came, and commands them.
func TestHomeAssistant(t *testing.T) {
	b := newBroker(t)
	plug := b.addDevice("tasmota_A1B2C3", "-profile", "tasmota")
	hass := b.addDevice("hass", "-profile", "homeassistant")
	device, _ := b.connect3(t, make3{"tasmota_A1B2C3", true, []string{"cmnd/tasmota_A1B2C3/#"}, ""}, plug)
	done(t, device.Publish("tasmota/discovery/A1B2C3/config", 1, true, "discovered"))
	done(t, device.Publish("tele/tasmota_A1B2C3/LWT", 1, true, "Online"))
	device.Disconnect(100)
	ha, got := b.connect3(t, make3{"hass", true, []string{"tasmota/discovery/#", "tele/tasmota_A1B2C3/LWT", "homeassistant/#"}, "homeassistant/status"}, hass)
	defer ha.Disconnect(100)
	seen := map[string]bool{receive(t, got): true, receive(t, got): true}
	if !seen["tasmota/discovery/A1B2C3/config discovered"] || !seen["tele/tasmota_A1B2C3/LWT Online"] {
		t.Errorf("%v", seen)
	}
	done(t, ha.Publish("cmnd/tasmota_A1B2C3/POWER", 0, false, "ON")) // the plug is away; QoS 0 is all that Home Assistant sends
	done(t, ha.Publish("cmnd/tasmota_A1B2C3/POWER", 1, false, "OFF"))
	device, commands := b.connect3(t, make3{"tasmota_A1B2C3", true, []string{"cmnd/tasmota_A1B2C3/#"}, ""}, plug)
	defer device.Disconnect(100)
	if m := receive(t, commands); m != "cmnd/tasmota_A1B2C3/POWER OFF" && m != "cmnd/tasmota_A1B2C3/POWER ON" {
		t.Errorf("%q", m)
	}
}
