package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// Packet types of MQTT, in the upper half of a packet's first byte.
const (
	mqttConnack = 2
	mqttPublish = 3
	mqttPuback  = 4
	mqttSuback  = 9
)

// mqttConn is a lean MQTT 3.1.1 client, the same for every server, so that the load costs little beside
// it and the same beside each. One goroutine owns it.
type mqttConn struct {
	c   net.Conn
	r   *bufio.Reader
	out []byte
}

// dialMQTT connects. With clean the session ends with the connection; else it is kept.
func dialMQTT(addr, client string, clean bool, life time.Duration) (*mqttConn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(life)) // fails only on a closed connection
	m := &mqttConn{c: c, r: bufio.NewReaderSize(c, 4096)}
	if err := m.open(client, clean); err != nil {
		m.close()
		return nil, fmt.Errorf("connect over MQTT: %w", err)
	}
	return m, nil
}

func (m *mqttConn) close() { _ = m.c.Close() }

func (m *mqttConn) open(client string, clean bool) error {
	flags := byte(0)
	if clean {
		flags = 2
	}
	b := appendText(nil, "MQTT")
	b = append(b, 4, flags, 0, 0) // protocol level, flags, no keep-alive
	body, err := m.ask(0x10, appendText(b, client), mqttConnack)
	if err == nil && (len(body) != 2 || body[1] != 0) {
		err = fmt.Errorf("refused with % x", body)
	}
	return err
}

// subscribe waits for the answer. It must come before the first message can.
func (m *mqttConn) subscribe(filter string, qos byte) error {
	body, err := m.ask(0x82, append(appendText([]byte{0, 1}, filter), qos), mqttSuback)
	if err == nil && (len(body) != 3 || body[2] != qos) {
		err = fmt.Errorf("subscription answered with % x", body)
	}
	return err
}

// leave ends the connection as a device does that comes back later.
func (m *mqttConn) leave() error {
	_, err := m.c.Write([]byte{0xe0, 0})
	m.close()
	return err
}

func (m *mqttConn) ask(first byte, body []byte, want byte) ([]byte, error) {
	if _, err := m.c.Write(append(appendLength([]byte{first}, len(body)), body...)); err != nil {
		return nil, err
	}
	kind, answer, err := m.packet()
	if err == nil && kind>>4 != want {
		err = fmt.Errorf("packet %#x instead of type %d", kind, want)
	}
	return answer, err
}

// packet returns the next packet; its body is valid until the next call.
func (m *mqttConn) packet() (first byte, body []byte, err error) {
	if first, err = m.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(m.r) // the same coding, of at most four bytes
	if err != nil {
		return 0, nil, err
	}
	if body, err = m.r.Peek(int(min(n, 1<<16))); err != nil {
		return 0, nil, fmt.Errorf("packet of %d bytes: %w", n, err)
	}
	_, err = m.r.Discard(len(body))
	return first, body, err
}

// more says whether another packet, of up to 127 bytes, is there already as a whole.
func (m *mqttConn) more() bool {
	head, err := m.r.Peek(min(2, m.r.Buffered()))
	return err == nil && len(head) == 2 && head[1] < 128 && m.r.Buffered() >= 2+int(head[1])
}

// receive takes messages, acknowledges those of QoS 1 with one write for all that are there at a time, and
// tells how many they were. It returns when the connection ends, or enough says so.
func (m *mqttConn) receive(got func(n int) (enough bool)) error {
	for {
		n := 0
		m.out = m.out[:0]
		for n == 0 || m.r.Buffered() > 0 {
			first, body, err := m.packet()
			if err != nil {
				return err
			}
			if first>>4 != mqttPublish {
				return fmt.Errorf("packet %#x instead of a message", first)
			}
			n++
			if first>>1&3 == 0 {
				continue
			}
			at := 2 + int(binary.BigEndian.Uint16(body))
			m.out = append(m.out, mqttPuback<<4, 2, body[at], body[at+1])
		}
		if len(m.out) > 0 {
			if _, err := m.c.Write(m.out); err != nil {
				return err
			}
		}
		if got(n) {
			return nil
		}
	}
}

// publisher keeps window publishes of QoS 1 in flight, each write as many as there is room for.
func (m *mqttConn) publisher(topic string, payload, window int) worker {
	return func(ctx context.Context, r *recorder) error {
		began := make([]time.Time, window+1) // by packet id, which is from 1 to window
		free := make([]uint16, 0, window)
		for id := range window {
			free = append(free, uint16(window-id))
		}
		body := make([]byte, payload)
		for {
			m.out = m.out[:0]
			for len(free) > 0 && ctx.Err() == nil && !r.over() {
				id := free[len(free)-1]
				free = free[:len(free)-1]
				began[id] = time.Now()
				m.out = appendPublish(m.out, topic, 1, id, body)
			}
			if len(m.out) > 0 {
				if _, err := m.c.Write(m.out); err != nil {
					return err
				}
			}
			if len(free) == window {
				return nil
			}
			for first := true; first || m.more(); first = false {
				kind, answer, err := m.packet()
				if err != nil {
					return err
				}
				if kind>>4 != mqttPuback || len(answer) != 2 {
					return fmt.Errorf("packet %#x with % x instead of a PUBACK", kind, answer)
				}
				id := binary.BigEndian.Uint16(answer)
				r.done(began[id])
				free = append(free, id)
			}
		}
	}
}

func appendPublish(b []byte, topic string, qos byte, id uint16, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	b = appendText(appendLength(append(b, mqttPublish<<4|qos<<1), n), topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendLength(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }
