package torture

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// session is a device's MQTT 5 session, over any number of connections.
type session struct {
	g           *gateway
	name, token string
	got         map[string]int // payload: how often it came
	unflagged   int            // of those that came again
}

// visit connects, takes and acknowledges messages until n have come or nothing comes any more, and goes.
// present is what CONNACK says about the session.
func (s *session) visit(t *testing.T, n int, subscribe string) (present bool, came int) {
	t.Helper()
	conn, err := net.Dial("tcp", s.g.mqtt())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	read := func(wait time.Duration) (any, error) {
		conn.SetReadDeadline(time.Now().Add(wait))
		p, err := packets.ReadPacket(r)
		if err != nil {
			return nil, err
		}
		return p.Content, nil
	}
	expiry := uint32(3600)
	hello := packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: s.name, KeepAlive: 30, UsernameFlag: true, Username: s.name,
		PasswordFlag: true, Password: []byte(s.token), Properties: &packets.Properties{SessionExpiryInterval: &expiry},
	}
	if _, err := hello.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	in, err := read(30 * time.Second)
	ack, ok := in.(*packets.Connack)
	if err != nil || !ok || ack.ReasonCode != 0 {
		t.Fatalf("CONNECT is answered by %v, %v", in, err)
	}
	if subscribe != "" {
		sub := packets.Subscribe{PacketID: 1, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: subscribe, QoS: 1}}}
		if _, err := sub.WriteTo(conn); err != nil {
			t.Fatal(err)
		}
	}
	wait := 30 * time.Second
	for came < n || subscribe != "" {
		in, err := read(wait)
		if err != nil {
			break
		}
		switch p := in.(type) {
		case *packets.Suback:
			if p.Reasons[0] > 1 {
				t.Fatalf("SUBSCRIBE is answered by %v", p)
			}
			subscribe = ""
		case *packets.Publish:
			if s.got[string(p.Payload)]++; s.got[string(p.Payload)] > 1 && !p.Duplicate {
				s.unflagged++
			}
			came++
			if _, err := (&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}}).WriteTo(conn); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("the session received %T", in)
		}
	}
	if _, err := (&packets.Disconnect{Properties: &packets.Properties{}}).WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	for { // until the gateway has taken what was written before, and closes
		if _, err := read(30 * time.Second); err != nil {
			break
		}
	}
	return ack.SessionPresent, came
}

// TestSessionsOnAFullDisk: a full disk keeps no MQTT session from coming back, as often as it likes and over a
// start, and from taking and acknowledging what waits for it. What was acknowledged does not come twice while
// the process lives.
func TestSessionsOnAFullDisk(t *testing.T) {
	rounds, rnd := plan(t, 2, 20)
	d := newMemory(t, 8)
	g := newGateway(t, d.data(), "[storage]\nmax_bytes = \"64MiB\"\nretain_bytes = \"1MiB\"\n")
	g.start()
	s := &session{g: g, name: "d0", token: g.addDevice("d0"), got: map[string]int{}}
	a := g.api(g.addKey())
	s.visit(t, 0, "device/d0/in/#")
	next := 0
	publish := func() {
		next++
		var code int
		var why string
		if !soon(60*time.Second, func() bool {
			_, code, why = a.publish("device/d0/in/x", fmt.Sprint("m", next), "Idempotency-Key", fmt.Sprint("m", next))
			return code == http.StatusCreated
		}) {
			t.Fatalf("publishing message %d: %d %s", next, code, why)
		}
	}
	for round := range rounds {
		first := 5 + rnd.IntN(20)
		second := 1 + rnd.IntN(10)
		for range first + second {
			publish()
		}
		foreign := d.fill(t)
		within(t, 60*time.Second, "the disk is full and nobody was refused", func() bool {
			_, code, _ := a.publish("nobody/listens", strings.Repeat("x", 10_000))
			return code == http.StatusInsufficientStorage
		})
		if present, came := s.visit(t, first, ""); !present || came != first {
			t.Fatalf("round %d: the disk is full, session present %v, %d of %d messages came", round, present, came, first)
		}
		if rnd.IntN(2) == 0 {
			g.kill() // what was acknowledged may be forgotten; the session is not
			g.start()
			if present, came := s.visit(t, second, ""); !present || came != second {
				t.Fatalf("round %d: started on a full disk, session present %v, %d messages came", round, present, came)
			}
		} else if present, came := s.visit(t, second, ""); !present || came != second || len(s.got) != next {
			t.Fatalf("round %d: back on a full disk, session present %v, %d of %d messages came, %d different ones of %d", round, present, came, second, len(s.got), next)
		}
		if err := os.Remove(foreign); err != nil {
			t.Fatal(err)
		}
		publish()
		for until := time.Now().Add(60 * time.Second); len(s.got) < next; { // what the kill had it forget comes again before
			if s.visit(t, 1, ""); time.Now().After(until) {
				t.Fatalf("round %d: %d of %d messages came", round, len(s.got), next)
			}
		}
		within(t, 30*time.Second, "debts stay open", func() bool {
			var st status
			if a.get("/v1/status", &st) != nil || st.Owed == 0 {
				return true
			}
			s.visit(t, 1, "")
			return false
		})
	}
	t.Logf("%d messages, %d came again without a flag: the disk could not remember that they were sent", next, s.unflagged)
}
