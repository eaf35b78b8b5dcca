//go:build !omit_stomp

package stomp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/bridge"
)

const writeTimeout = 30 * time.Second

// flavor is whose broker it is: each has headers of its own.
type flavor uint8

const (
	other flavor = iota
	activemq
	artemis
	rabbit
)

// session is one connection to a broker, signed in.
type session struct {
	net    net.Conn
	r      *bufio.Reader
	kind   flavor
	silent time.Duration // longest time in which the broker says nothing; 0: it promises nothing
	every  time.Duration // we promise to say something in this time; 0: nothing

	mu   sync.Mutex // guards what follows, and writing
	buf  []byte
	said time.Time
}

// connect signs in. id is of a client that owns a durable subscription.
func (d *dialer) connect(ctx context.Context, to *url.URL, id string) (*session, error) {
	secret, err := d.c.Secret()
	if err != nil {
		return nil, err
	}
	wire, err := d.c.Dial(ctx, to, map[string]string{"stomp": "61613", "stomps": "61614"}, to.Scheme == "stomps")
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = wire.Close() })
	defer stop()
	s := &session{net: wire}
	s.r = bufio.NewReaderSize(s, maxLine+1)
	ms := strconv.FormatInt(d.alive.Milliseconds(), 10)
	f := &frame{command: "CONNECT", headers: []header{{"accept-version", "1.2"}, {"host", d.host}, {"heart-beat", ms + "," + ms}}}
	f.some("login", d.c.Username)
	f.some("passcode", secret)
	f.some("client-id", id)
	a, err := s.shake(f)
	if err == nil && a.command == "ERROR" {
		err = bridge.Errorf(bridge.Configuration, "the broker refuses user %q: %s; look at username and password_file, and at options.host", d.c.Username, said(a))
	}
	if err == nil && (a.command != "CONNECTED" || a.get("version") != "1.2") {
		err = bridge.Errorf(bridge.Configuration, "the broker answered %.20q, version %.20q; STOMP 1.2 is wanted", a.command, a.get("version"))
	}
	if err != nil {
		_ = wire.Close()
		return nil, err
	}
	s.agree(a, d.alive)
	return s, nil
}

// shake sends the first frame and reads the answer.
func (s *session) shake(f *frame) (*frame, error) {
	for _, h := range f.headers {
		if strings.ContainsAny(h.value, "\r\n\x00") || strings.ContainsAny(h.name, ":\r\n") {
			return nil, bridge.Errorf(bridge.Configuration, "%s holds a character that STOMP cannot carry", h.name)
		}
	}
	if err := s.write(f, false); err != nil {
		return nil, err
	}
	a, err := read(s.r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the broker ends the connection at its start: %w; is it STOMP there, with or without TLS as the scheme says?", err)
	}
	return a, err
}

// agree reads what the broker said of itself: heart-beats (§Heart-beating) and name.
func (s *session) agree(a *frame, alive time.Duration) {
	sends, wants, _ := strings.Cut(a.get("heart-beat"), ",")
	s.silent, s.every = agreed(alive, sends), agreed(alive, wants)
	if s.silent > 0 {
		s.silent = 2*s.silent + time.Second // ActiveMQ lets up to two periods pass
	}
	switch server := a.get("server"); {
	case strings.HasPrefix(server, "RabbitMQ"):
		s.kind = rabbit
	case strings.HasPrefix(server, "ActiveMQ-Artemis"), strings.HasPrefix(server, "ArtemisMQ"), strings.Contains(server, "Artemis"):
		s.kind = artemis
	case strings.HasPrefix(server, "ActiveMQ"):
		s.kind = activemq
	}
}

// agreed is the longer of two periods; 0 when one side does not take part.
func agreed(ours time.Duration, theirs string) time.Duration {
	ms, err := strconv.ParseUint(theirs, 10, 31)
	if err != nil || ms == 0 {
		return 0
	}
	return max(ours, time.Duration(ms)*time.Millisecond)
}

// Read implements [io.Reader]. A broker that says nothing for too long is gone.
func (s *session) Read(p []byte) (int, error) {
	if s.silent > 0 {
		if err := s.net.SetReadDeadline(time.Now().Add(s.silent)); err != nil {
			return 0, err
		}
	}
	n, err := s.net.Read(p)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		err = fmt.Errorf("the broker said nothing for %v, not even a heart-beat", s.silent)
	}
	return n, err
}

// write sends frames; each goes in one write.
func (s *session) write(f *frame, text bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = f.append(s.buf[:0], text)
	return s.flushLocked()
}

func (s *session) flushLocked() error {
	s.said = time.Now()
	if err := s.net.SetWriteDeadline(s.said.Add(writeTimeout)); err != nil {
		return err
	}
	_, err := s.net.Write(s.buf)
	if cap(s.buf) > 256<<10 {
		s.buf = nil
	}
	return err
}

// beat sends a heart-beat when nothing else was sent, until ctx is done.
func (s *session) beat(ctx context.Context) error {
	if s.every == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(max(s.every/4, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if err := s.beatAt(now); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) beatAt(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.said) < s.every/2 {
		return nil
	}
	s.buf = append(s.buf[:0], '\n')
	return s.flushLocked()
}

// close says good-bye where that does not have to wait, and ends the connection.
func (s *session) close() {
	_ = s.net.SetWriteDeadline(time.Now().Add(time.Second)) // wakes a write that hangs
	if s.mu.TryLock() {
		_, _ = s.net.Write([]byte("DISCONNECT\n\n\x00"))
		s.mu.Unlock()
	}
	_ = s.net.Close()
}

// said is an ERROR frame in words.
func said(f *frame) string {
	text := f.get("message")
	if body := strings.TrimSpace(string(f.body)); body != "" {
		first, _, _ := strings.Cut(body, "\n") // a stack trace may follow
		text += ": " + first
	}
	return strings.ToValidUTF8(text[:min(len(text), 300)], "?")
}
