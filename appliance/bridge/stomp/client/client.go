package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const writeTimeout = 30 * time.Second

// Options are what a client says of itself.
type Options struct {
	Host            string // the virtual host
	Login, Passcode string // "": nobody
	ID              string // what a durable subscription belongs to; "" nothing
	Alive           time.Duration
}

// Conn is a connection that is logged in. Reads are one goroutine's; writes may come from several.
type Conn struct {
	Server string // as it calls itself; "" it does not

	net    net.Conn
	r      *bufio.Reader
	silent time.Duration // longest time in which the broker says nothing; 0: it promises nothing
	every  time.Duration // we promise to say something in this time; 0: nothing

	mu   sync.Mutex // guards what follows, and writing
	buf  []byte
	said time.Time
}

// Errors of a start.
var (
	ErrRefused = errors.New("it is refused")                       // by the broker, with its words
	ErrVersion = errors.New("STOMP 1.2 is wanted")                 // it speaks another
	ErrValue   = errors.New("a character that STOMP cannot carry") // in what the options say
)

// Login logs in on a connection just made. The connection is the caller's when it fails.
func Login(c net.Conn, o Options) (*Conn, error) {
	s := &Conn{net: c}
	s.r = bufio.NewReaderSize(reader{s}, maxLine+1)
	ms := strconv.FormatInt(o.Alive.Milliseconds(), 10)
	f := &Frame{Command: "CONNECT", headers: []header{{"accept-version", "1.2"}, {"host", o.Host}, {"heart-beat", ms + "," + ms}}}
	f.Some("login", o.Login)
	f.Some("passcode", o.Passcode)
	f.Some("client-id", o.ID)
	for _, h := range f.headers { // they are not escaped
		if strings.ContainsAny(h.value, "\r\n\x00") {
			return nil, fmt.Errorf("%s holds %w", h.name, ErrValue)
		}
	}
	if err := s.Write(f); err != nil {
		return nil, err
	}
	a, err := s.Read()
	switch {
	case err != nil:
		return nil, err
	case a.Command == "ERROR":
		return nil, fmt.Errorf("%w: %s", ErrRefused, a.Said())
	case a.Command != "CONNECTED" || a.Get("version") != "1.2":
		return nil, fmt.Errorf("the broker answered %.20q, version %.20q; %w", a.Command, a.Get("version"), ErrVersion)
	}
	s.agree(a, o.Alive)
	return s, nil
}

// Read reads a frame. An error ends the connection.
func (s *Conn) Read() (*Frame, error) { return read(s.r) }

// agree reads what the broker said of itself: heart-beats (§Heart-beating) and name.
func (s *Conn) agree(a *Frame, alive time.Duration) {
	sends, wants, _ := strings.Cut(a.Get("heart-beat"), ",")
	s.silent, s.every = agreed(alive, sends), agreed(alive, wants)
	if s.silent > 0 {
		s.silent = 2*s.silent + time.Second // ActiveMQ lets up to two periods pass
	}
	s.Server = a.Get("server")
}

// agreed is the longer of two periods; 0 when one side does not take part.
func agreed(ours time.Duration, theirs string) time.Duration {
	ms, err := strconv.ParseUint(theirs, 10, 31)
	if err != nil || ms == 0 {
		return 0
	}
	return max(ours, time.Duration(ms)*time.Millisecond)
}

// reader is the bytes that come. A broker that says nothing for too long is gone.
type reader struct{ *Conn }

// Read implements [io.Reader].
func (s reader) Read(p []byte) (int, error) {
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

// Write sends a frame, in one write.
func (s *Conn) Write(f *Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = f.append(s.buf[:0])
	return s.flushLocked()
}

func (s *Conn) flushLocked() error {
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

// Beat sends a heart-beat when nothing else was sent, until ctx is done.
func (s *Conn) Beat(ctx context.Context) error {
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

func (s *Conn) beatAt(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.said) < s.every/2 {
		return nil
	}
	s.buf = append(s.buf[:0], '\n')
	return s.flushLocked()
}

// Close says good-bye where that does not have to wait, and ends the connection.
func (s *Conn) Close() {
	_ = s.net.SetWriteDeadline(time.Now().Add(time.Second)) // wakes a write that hangs
	if s.mu.TryLock() {
		_, _ = s.net.Write([]byte("DISCONNECT\n\n\x00"))
		s.mu.Unlock()
	}
	_ = s.net.Close()
}

// Said is an ERROR in words.
func (f *Frame) Said() string {
	text := f.Get("message")
	if body := strings.TrimSpace(string(f.Body)); body != "" {
		first, _, _ := strings.Cut(body, "\n") // a stack trace may follow
		text += ": " + first
	}
	return strings.ToValidUTF8(text[:min(len(text), 300)], "?")
}
