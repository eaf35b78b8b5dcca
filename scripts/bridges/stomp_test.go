package bridges

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// stomp is the row of a broker over STOMP; options are of the connector.
func stomp(name, broker, up, down, options string) upstream {
	u := upstream{
		name: name, kind: "stomp", broker: broker, protocol: "stomp",
		read:  func(t *testing.T, addr string, got *tally) func() { return stompRead(addr, up, options != "", got) },
		write: func(t *testing.T, addr string, from, to int) { stompWrite(t, addr, down, options != "", from, to) },
		config: func(addr string) string {
			return `[[bridge]]
name = "up"
kind = "stomp"
urls = ["stomp://` + addr + `"]
username = "` + brokers.User + `"
password_file = "PASSWORD_FILE"
[bridge.up]
filters = ["device/+/out/#"]
to = "` + up + `"
[bridge.down]
from = ["` + down + `"]
to = "cmd/${topic}"
[bridge.options]
keep_alive = 2
` + options
		},
	}
	if strings.HasPrefix(broker, "activemq") {
		u.tell = stompTell
	}
	return u
}

func TestLossSTOMPActiveMQ5(t *testing.T) {
	testLoss(t, stomp("ActiveMQ Classic 5 (STOMP)", "activemq-debian", "/queue/ep.up", "/queue/ep.down", ""))
}

func TestLossSTOMPActiveMQ6(t *testing.T) {
	testLoss(t, stomp("ActiveMQ Classic 6 (STOMP)", "activemq", "/queue/ep.up", "/queue/ep.down", ""))
}

func TestLossSTOMPArtemis(t *testing.T) {
	testLoss(t, stomp("ActiveMQ Artemis 2 (STOMP)", "artemis", "ep.up", "ep.down", "destination = \"queue\"\n"))
}

func TestLossSTOMPRabbitMQ(t *testing.T) {
	testLoss(t, stomp("RabbitMQ 3.10 (STOMP)", "rabbitmq", "/queue/ep.up", "/queue/ep.down", ""))
}

// stompClient is a client for one connection, as small as it can be: bodies hold no NUL, headers need no escapes.
type stompClient struct {
	net.Conn
	*bufio.Reader
}

func (c stompClient) frame() (command, headers, body string, err error) {
	s, err := c.ReadString(0)
	if err != nil {
		return "", "", "", err
	}
	head, body, _ := strings.Cut(strings.TrimLeft(s[:len(s)-1], "\r\n"), "\n\n")
	command, headers, _ = strings.Cut(head, "\n")
	if command == "ERROR" {
		return "", "", "", errors.New(s)
	}
	return command, "\n" + headers + "\n", body, nil
}

func headerOf(headers, name string) string {
	_, v, _ := strings.Cut(headers, "\n"+name+":")
	v, _, _ = strings.Cut(v, "\n")
	return v
}

func stompDial(addr string) (stompClient, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return stompClient{}, err
	}
	c := stompClient{conn, bufio.NewReader(conn)}
	fmt.Fprintf(c, "CONNECT\naccept-version:1.2\nhost:/\nlogin:%s\npasscode:%s\n\n\x00", brokers.User, brokers.Password)
	if _, _, _, err := c.frame(); err != nil {
		conn.Close()
		return stompClient{}, err
	}
	return c, nil
}

func stompTell(t *testing.T, addr, body string) {
	t.Helper()
	c, err := stompDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "SEND\ndestination:/queue/ep.down.lamp1.set\npersistent:true\nreceipt:1\n\n%s\x00", body)
	if _, _, _, err := c.frame(); err != nil {
		t.Fatal(err)
	}
}

func stompRead(addr, queue string, artemis bool, got *tally) func() {
	stop := make(chan struct{})
	go func() {
		for {
			_ = stompListen(addr, queue, artemis, got) // the broker is away
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() { close(stop) } // the broker dies with the test
}

func stompListen(addr, queue string, artemis bool, got *tally) error {
	c, err := stompDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	kind := ""
	if artemis {
		kind = "subscription-type:ANYCAST\n"
	}
	fmt.Fprintf(c, "SUBSCRIBE\nid:0\ndestination:%s\nack:client-individual\n%s\n\x00", queue, kind)
	for {
		command, headers, body, err := c.frame()
		if err != nil {
			return err
		}
		if command == "MESSAGE" {
			if headerOf(headers, "redelivered") == "true" {
				got.redelivered(body)
			} else {
				got.add(body)
			}
			fmt.Fprintf(c, "ACK\nid:%s\n\n\x00", strings.ReplaceAll(headerOf(headers, "ack"), ":", `\c`))
		}
	}
}

// stompWrite sends with receipts, again from the first that has none.
func stompWrite(t *testing.T, addr, queue string, artemis bool, from, to int) {
	for at := from; at < to && t.Context().Err() == nil; {
		c, err := stompDial(addr)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		at = stompBurst(c, queue, artemis, at, to)
		c.Close()
	}
}

func stompBurst(c stompClient, queue string, artemis bool, at, to int) int {
	kind := ""
	if artemis {
		kind = "destination-type:ANYCAST\n"
	}
	for at < to {
		end := min(at+100, to)
		for n := at; n < end; n++ {
			fmt.Fprintf(c, "SEND\ndestination:%s\npersistent:true\ncontent-type:application/cloudevents+json\nreceipt:%d\n%s\n%s\x00", queue, n, kind, event(n))
		}
		have := map[string]bool{}
		for len(have) < end-at {
			_, headers, _, err := c.frame()
			if err != nil {
				for have[strconv.Itoa(at)] {
					at++
				}
				return at
			}
			have[headerOf(headers, "receipt-id")] = true
		}
		at = end
	}
	return at
}
