package bridges

import (
	"fmt"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

func mosquitto() upstream {
	return upstream{
		name: "Mosquitto 2, saving once a second", kind: "mqtt", broker: "mosquitto", protocol: "mqtt", read: mqttRead, write: mqttWrite, tell: mqttTell,
		forgets: "Mosquitto keeps what it acknowledged in memory until it saves, here once a second",
		config: func(addr string) string {
			return `[[bridge]]
name = "up"
kind = "mqtt"
urls = ["mqtt://` + addr + `"]
[bridge.up]
filters = ["device/+/out/#"]
to = "ep/v1/test/${gw}/up/${topic}"
[bridge.down]
from = ["ep/v1/test/down/#"]
to = "cmd/${topic[4:]}"
[bridge.options]
keep_alive = 2
`
		},
	}
}

func TestLossMosquitto(t *testing.T) { testLoss(t, mosquitto()) }

func mqttOptions(addr, id string) *paho.ClientOptions {
	return paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetCleanSession(false).SetMaxReconnectInterval(200 * time.Millisecond).
		SetConnectRetry(true).SetConnectRetryInterval(200 * time.Millisecond).SetConnectTimeout(5 * time.Second).SetWriteTimeout(time.Second)
}

// mqttRead keeps a session at the broker and subscribes again after each connection: a killed broker may have
// forgotten both.
func mqttRead(t *testing.T, addr string, got *tally) func() {
	t.Helper()
	subscribed := make(chan struct{}, 100)
	o := mqttOptions(addr, "reader")
	o.SetOnConnectHandler(func(c paho.Client) {
		c.Subscribe("ep/v1/+/+/up/#", 1, nil).Wait()
		subscribed <- struct{}{}
	})
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { got.add(string(m.Payload())) })
	c := paho.NewClient(o)
	c.Connect()
	wait(t, "the reader is subscribed", func() bool { return len(subscribed) > 0 })
	return func() { c.Disconnect(100) }
}

// mqttWrite uses one client for each connection, as the library completes publishes without a PUBACK when it connects
// again by itself.
func mqttWrite(t *testing.T, addr string, from, to int) {
	for at := from; at < to && t.Context().Err() == nil; {
		o := mqttOptions(addr, fmt.Sprintf("writer-%d", at)).SetAutoReconnect(false).SetConnectRetry(false).SetCleanSession(true)
		lost := make(chan struct{})
		o.SetConnectionLostHandler(func(paho.Client, error) { close(lost) })
		c := paho.NewClient(o)
		if token := c.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		at = mqttBurst(c, lost, at, to)
		c.Disconnect(100)
	}
}

func mqttTell(t *testing.T, addr, body string) {
	t.Helper()
	c := paho.NewClient(mqttOptions(addr, "teller"))
	if token := c.Connect(); !token.WaitTimeout(time.Minute) || token.Error() != nil { // else it calls a message published that it lost
		t.Fatalf("the broker does not take a connection: %v", token.Error())
	}
	defer c.Disconnect(100)
	if token := c.Publish("ep/v1/home/any/down/lamp1/set", 1, false, body); !token.WaitTimeout(time.Minute) || token.Error() != nil {
		t.Fatalf("the broker does not take a command: %v", token.Error())
	}
}

// mqttBurst publishes until the connection is lost, and returns how far everything is acknowledged.
func mqttBurst(c paho.Client, lost chan struct{}, at, to int) int {
	for at < to {
		var tokens []paho.Token
		for n := at; n < min(at+100, to); n++ {
			tokens = append(tokens, c.Publish("ep/v1/test/down/x", 1, false, event(n)))
		}
		for _, token := range tokens {
			select {
			case <-token.Done():
				if token.Error() != nil {
					return at
				}
			case <-lost:
				return at
			}
		}
		at += len(tokens)
	}
	return at
}
