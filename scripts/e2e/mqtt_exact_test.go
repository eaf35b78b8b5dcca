package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// mqttConn is a client of MQTT 5 that keeps the rules of QoS 2 over any number of connections, with another
// project's codec.
type mqttConn struct {
	net.Conn
	r *bufio.Reader
}

func (b *broker) connect5(client string, clean bool) (*mqttConn, *packets.Connack, error) {
	return b.open5(client, clean, 3600, func(*packets.Connect) {})
}

// open5 connects with a CONNECT that change may change, expiry in seconds.
func (b *broker) open5(client string, clean bool, expiry uint32, change func(*packets.Connect)) (*mqttConn, *packets.Connack, error) {
	conn, err := net.DialTimeout("tcp", b.mqtt, time.Second)
	if err != nil {
		return nil, nil, err
	}
	c := &mqttConn{conn, bufio.NewReader(conn)}
	p := packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: client, CleanStart: clean, KeepAlive: 30,
		Properties: &packets.Properties{SessionExpiryInterval: &expiry},
	}
	change(&p)
	if _, err = p.WriteTo(c); err == nil {
		var in *packets.ControlPacket
		if in, err = c.read(); err == nil {
			if ack, ok := in.Content.(*packets.Connack); ok && ack.ReasonCode == 0 {
				return c, ack, nil
			}
			err = fmt.Errorf("CONNECT was answered by %v", in)
		}
	}
	_ = conn.Close()
	return nil, nil, err
}

func (c *mqttConn) read() (*packets.ControlPacket, error) {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	return packets.ReadPacket(c.r)
}

func (c *mqttConn) write(p io.WriterTo) error {
	_, err := p.WriteTo(c)
	return err
}

// exactPublisher publishes the numbers below total with QoS 2 and a window of 20.
type exactPublisher struct {
	total, next int
	free        []uint16
	open        []exactPublish // in the order of the first PUBLISH
}

type exactPublish struct {
	id       uint16
	n        int
	released bool
}

func (p *exactPublisher) done() bool { return p.next == p.total && len(p.open) == 0 }

// serve goes on until everything is published or the connection breaks.
func (p *exactPublisher) serve(c *mqttConn) error {
	for _, o := range p.open { // 5.0 §4.4
		var err error
		if o.released {
			err = c.write(&packets.Pubrel{PacketID: o.id})
		} else {
			err = c.write(&packets.Publish{Topic: "exact/t", QoS: 2, PacketID: o.id, Duplicate: true, Payload: fmt.Append(nil, o.n)})
		}
		if err != nil {
			return err
		}
	}
	for !p.done() {
		for p.next < p.total && len(p.free) > 0 {
			o := exactPublish{id: p.free[0], n: p.next}
			p.free, p.next = p.free[1:], p.next+1
			p.open = append(p.open, o)
			if err := c.write(&packets.Publish{Topic: "exact/t", QoS: 2, PacketID: o.id, Payload: fmt.Append(nil, o.n)}); err != nil {
				return err
			}
		}
		in, err := c.read()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(p.open, func(o exactPublish) bool { return o.id == in.PacketID() })
		switch q := in.Content.(type) {
		case *packets.Pubrec:
			if q.ReasonCode >= 0x80 || i < 0 {
				return fmt.Errorf("%w: %v", errBroken, in)
			}
			p.open[i].released = true
			err = c.write(&packets.Pubrel{PacketID: q.PacketID})
		case *packets.Pubcomp:
			if i >= 0 { // 0x92 after a repeated PUBREL is success
				p.free = append(p.free, q.PacketID)
				p.open = slices.Delete(p.open, i, i+1)
			}
		default:
			return fmt.Errorf("%w: the publisher received %v", errBroken, in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errBroken = fmt.Errorf("the protocol is broken")

// exactSubscriber receives with QoS 2.
type exactSubscriber struct {
	held map[uint16]bool // received, not yet released
	got  []string
	how  []string
	n    atomic.Int64
}

func (s *exactSubscriber) serve(c *mqttConn, total int, pause func()) error {
	for len(s.got) < total || len(s.held) > 0 {
		in, err := c.read()
		if err != nil {
			return err
		}
		switch q := in.Content.(type) {
		case *packets.Publish:
			if q.QoS != 2 {
				return fmt.Errorf("%w: %v", errBroken, in)
			}
			if !s.held[q.PacketID] {
				s.held[q.PacketID] = true
				s.got = append(s.got, string(q.Payload))
				s.how = append(s.how, fmt.Sprintf("%s as %d dup=%v", q.Payload, q.PacketID, q.Duplicate))
				s.n.Store(int64(len(s.got)))
			} else if !q.Duplicate {
				return fmt.Errorf("%w: id %d comes again without DUP", errBroken, q.PacketID)
			}
			pause()
			err = c.write(&packets.Pubrec{PacketID: q.PacketID})
		case *packets.Pubrel:
			delete(s.held, q.PacketID)
			err = c.write(&packets.Pubcomp{PacketID: q.PacketID})
		default:
			return fmt.Errorf("%w: the subscriber received %v", errBroken, in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openExact makes the sessions of the subscriber and the publisher.
func openExact(t *testing.T, b *broker) {
	t.Helper()
	c, _, err := b.connect5("sub", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.write(&packets.Subscribe{PacketID: 1, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: "exact/#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	if in, err := c.read(); err != nil || in.Type != packets.SUBACK {
		t.Fatal(in, err)
	}
	_ = c.Close()
	if c, _, err = b.connect5("pub", true); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestExactlyOnceThroughKills publishes and receives with QoS 2 while the gateway is killed again and
// again: every message comes exactly once, and in order.
func TestExactlyOnceThroughKills(t *testing.T) {
	total, kills := 3000, 6
	if testing.Short() {
		total, kills = 1000, 2
	}
	b := newBroker(t, "-anonymous")
	openExact(t, b)
	pub := &exactPublisher{total: total}
	for id := range uint16(20) {
		pub.free = append(pub.free, id+1)
	}
	sub := &exactSubscriber{held: map[uint16]bool{}}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	again := func(client string, serve func(*mqttConn) error) {
		for {
			c, ack, err := b.connect5(client, false)
			if err == nil {
				if !ack.SessionPresent {
					t.Errorf("%s: the session is gone", client)
				}
				err = serve(c)
				_ = c.Close()
			}
			if err == nil {
				return
			}
			if strings.Contains(err.Error(), errBroken.Error()) {
				t.Error(client, err)
				return
			}
			select {
			case <-stop:
				t.Errorf("%s: not done: %v", client, err)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	rnd := rand.New(rand.NewPCG(4, uint64(time.Now().UnixNano())))
	wg.Go(func() { again("pub", pub.serve) })
	wg.Go(func() {
		again("sub", func(c *mqttConn) error { return sub.serve(c, total, func() {}) })
	})
	for i := range kills {
		at := int64(total * (i + 1) / (kills + 2))
		within(t, 60*time.Second, fmt.Sprintf("%d messages", at), func() bool { return sub.n.Load() >= at || t.Failed() })
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
		b.kill()
		b.start()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		close(stop)
		<-done
	}
	for i, got := range sub.got {
		if got != fmt.Sprint(i) {
			t.Fatalf("message %d is %q: repeated, lost, or out of order:\n%s", i, got, strings.Join(sub.how[max(0, i-40):min(len(sub.how), i+10)], "\n"))
		}
	}
	if len(sub.got) != total {
		t.Errorf("%d of %d came", len(sub.got), total)
	}
}
