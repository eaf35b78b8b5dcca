package mqtt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"edgepost/appliance"
	"edgepost/appliance/listener/mqtt"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/listener/trial"
	"edgepost/appliance/message"
)

// TestReal replays testdata/real/*.txt against the whole appliance over TCP. The lines:
//
//	device NAME            adds a device; $NAME is its token from then on
//	dial NAME V            a connection of version 3, 4 or 5; later lines are about it until "use NAME"
//	> PACKET, < PACKET     as in TestScenarios; "<" waits up to a minute
//	<any PACKET | PACKET   one of them comes next
//	silent                 nothing comes before the answer to a PINGREQ, nor for 100 ms
//	closed                 the connection ends
//	hangup                 the client ends it without a word
//	restart                the appliance stops and starts on the same data
//	wait D
func TestReal(t *testing.T) {
	trial.Scenarios(t, "testdata/real/*.txt", func(t *testing.T, body string) {
		t.Parallel()
		replayReal(t, body)
	})
}

type stage struct {
	t     *testing.T
	data  string
	app   *appliance.Appliance
	words *strings.Replacer
	vars  []string
	peers map[string]*client
	c     *client
}

type client struct {
	conn net.Conn
	r    *bufio.Reader
	v    packet.Version
}

func replayReal(t *testing.T, body string) {
	s := &stage{t: t, data: t.TempDir(), peers: map[string]*client{}, words: strings.NewReplacer()}
	s.start()
	defer s.stop()
	for i, line := range strings.Split(body, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := s.step(s.words.Replace(line)); err != nil {
			t.Fatalf("line %d: %s\n%v", i+2, line, err)
		}
	}
}

func (s *stage) start() {
	all := []message.Filter{"#"}
	cfg := appliance.Config{Data: s.data}
	cfg.HTTP.Addr, cfg.MQTT.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Access.Anonymous = message.Rules{Publish: all, Subscribe: all}
	app, err := appliance.New(cfg, appliance.Options{Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := app.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.app = app
}

func (s *stage) stop() {
	for _, c := range s.peers {
		_ = c.conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.app.Stop(ctx); err != nil {
		s.t.Error(err)
	}
}

func (s *stage) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "device":
		token, err := s.app.AddDevice(s.t.Context(), rest)
		s.vars = append(s.vars, "$"+rest, token)
		s.words = strings.NewReplacer(s.vars...)
		return err
	case "dial":
		return s.dial(rest)
	case "use":
		s.c = s.peers[rest]
	case ">":
		return s.c.send(rest)
	case "<", "<any":
		got, err := s.c.next(time.Minute)
		if err != nil {
			return err
		}
		for want := range strings.SplitSeq(rest, " | ") {
			if mqtt.Match(want, got) {
				return nil
			}
		}
		return fmt.Errorf("have %s", got)
	case "silent":
		return s.c.silent()
	case "closed":
		if got, err := s.c.next(time.Minute); err == nil {
			return fmt.Errorf("have %s", got)
		}
	case "hangup":
		return s.c.conn.Close()
	case "restart":
		s.stop()
		s.peers = map[string]*client{}
		s.start()
	case "wait":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return err
	default:
		return errors.New("unknown line")
	}
	return nil
}

func (s *stage) dial(rest string) error {
	name, v, _ := strings.Cut(rest, " ")
	conn, err := net.Dial("tcp", s.app.MQTTAddr())
	if err != nil {
		return err
	}
	s.c = &client{conn, bufio.NewReader(conn), packet.Version(v[0] - '0')}
	s.peers[name] = s.c
	return nil
}

func (c *client) send(words string) error {
	b, err := mqtt.Build(words, c.v)
	if err == nil {
		_, err = c.conn.Write(b)
	}
	return err
}

// next is the next packet as text.
func (c *client) next(wait time.Duration) (string, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	for n := 2; ; n++ {
		b, err := c.r.Peek(n)
		if err != nil {
			return "", err
		}
		t, flags, body, head, err := packet.ReadHeader(b)
		if errors.Is(err, packet.ErrShort) {
			continue
		}
		all := make([]byte, head+body)
		if _, err := io.ReadFull(c.r, all); err != nil {
			return "", err
		}
		var p packet.Packet
		if err = p.Decode(c.v, t, flags, all[head:]); err == nil {
			err = p.FromServer(c.v)
		}
		return mqtt.Show(&p, c.v), err
	}
}

func (c *client) silent() error {
	if err := c.send("pingreq"); err != nil {
		return err
	}
	if got, err := c.next(time.Minute); err != nil || got != "pingresp" {
		return fmt.Errorf("have %s %w", got, err)
	}
	if got, err := c.next(100 * time.Millisecond); err == nil {
		return fmt.Errorf("have %s", got)
	}
	return nil
}
