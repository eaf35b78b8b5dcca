package cert

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestProfiles(t *testing.T) {
	cbc := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
	for _, c := range []struct {
		profile Profile
		version uint16
		suites  []uint16
		ok      bool
	}{
		{"", tls.VersionTLS13, nil, true},
		{Compatible, tls.VersionTLS12, nil, true},
		{Compatible, tls.VersionTLS12, cbc, false},
		{Compatible, tls.VersionTLS11, nil, false},
		{Modern, tls.VersionTLS13, nil, true},
		{Modern, tls.VersionTLS12, nil, false},
	} {
		r := newRig(t, func(o *Options) { o.Profile = c.profile })
		conf := r.client()
		conf.MinVersion, conf.MaxVersion, conf.CipherSuites = tls.VersionTLS10, c.version, c.suites
		conn, err := r.dial(r.serve(MQTT), conf)
		if (err == nil) != c.ok || c.ok && conn.ConnectionState().Version != c.version {
			t.Errorf("%q, version %x: %v", c.profile, c.version, err)
		}
	}
}

func TestALPN(t *testing.T) {
	r := newRig(t, nil)
	web, broker := r.serve(HTTP), r.serve(MQTT)
	for _, c := range []struct {
		addr   string
		offers []string
		want   string
	}{{web, []string{"h2", "http/1.1"}, "h2"}, {web, []string{"http/1.1"}, "http/1.1"}, {web, nil, ""}, {broker, []string{"mqtt"}, ""}} {
		conf := r.client()
		conf.NextProtos = c.offers
		conn, err := r.dial(c.addr, conf)
		if err != nil {
			t.Errorf("%v: %v", c.offers, err)
		} else if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
			t.Errorf("%v: %q, want %q", c.offers, got, c.want)
		}
	}
}

// Whoever opens connections and says nothing keeps nobody out.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	r := newRig(t, nil)
	addr := r.serve(HTTP)
	for range maxHandshakes + 50 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := r.dial(addr, r.client()); err != nil {
		t.Error(err)
	}
}

// pipes is a listener over net.Pipe, whose connections the clock of a bubble moves.
type pipes struct {
	all  chan net.Conn
	done chan struct{}
	once sync.Once
	from net.Addr
}

type pipeConn struct {
	net.Conn
	from net.Addr
}

func (c pipeConn) RemoteAddr() net.Addr { return c.from }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.all:
		return pipeConn{c, p.from}, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return p.from }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.all <- theirs
	return ours
}

func TestHandshakeHasATimeout(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{all: make(chan net.Conn), done: make(chan struct{}), from: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}}
		l := r.Listener(p, HTTP)
		defer l.Close()
		c := p.dial()
		began := time.Now()
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < handshakeTimeout || took > handshakeTimeout+2*refuseWait {
			t.Errorf("it ended after %v", took)
		}
		synctest.Wait()
		if l.Refused() != 1 {
			t.Errorf("%d refused", l.Refused())
		}
	})
}

// One address has half of the places at most.
func TestOneSourceHasABound(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{all: make(chan net.Conn), done: make(chan struct{}), from: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}}
		l := r.Listener(p, HTTP)
		var open []net.Conn
		for range maxOfSource + 10 {
			open = append(open, p.dial())
		}
		synctest.Wait()
		if l.Refused() != 10 {
			t.Errorf("%d refused, want 10", l.Refused())
		}
		for _, c := range open {
			_ = c.Close()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if len(l.pending) != 0 || len(l.sources) != 0 {
			t.Errorf("%d pending, %d sources", len(l.pending), len(l.sources))
		}
	})
}

func TestPlainHTTPIsTold(t *testing.T) {
	r := newRig(t, nil)
	c, err := net.Dial("tcp", r.serve(HTTP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: gw\r\n\r\n")
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 400 ") || !strings.Contains(string(answer), "https://") {
		t.Errorf("%q, %v", answer, err)
	}
}

// pair returns both ends of a connection; the server's is a Conn, over TCP or, with pipe, over
// what cannot be waited for.
func connPair(t *testing.T, pipe bool) (server net.Conn, client *tls.Conn) {
	t.Helper()
	r := newRig(t, nil)
	var tcp net.Listener
	var dial func() net.Conn
	if pipe {
		p := &pipes{all: make(chan net.Conn), done: make(chan struct{}), from: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
		tcp, dial = p, p.dial
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, dial = l, func() net.Conn {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
			}
			return c
		}
	}
	l := r.Listener(tcp, MQTT)
	t.Cleanup(func() { _ = l.Close() })
	shaken := make(chan error, 1)
	client = tls.Client(dial(), r.client())
	go func() { shaken <- client.HandshakeContext(context.Background()) }()
	server, err := l.Accept()
	if err := errors.Join(err, <-shaken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(); _ = client.Close() })
	if _, ok := server.(*Conn); !ok {
		t.Fatalf("it is a %T", server)
	}
	return server, client
}

// What is written arrives, however it is cut into records, segments and reads.
func TestConnReadsEverything(t *testing.T) {
	for _, pipe := range []bool{false, true} {
		server, client := connPair(t, pipe)
		sent := make([]byte, 300_000)
		_, _ = rand.Read(sent)
		go func() {
			rest := sent
			for n := 1; len(rest) > 0; n = (n*7 + 3) % 40_000 {
				part := rest[:min(n, len(rest))]
				if _, err := client.Write(part); err != nil {
					t.Error(err)
					return
				}
				rest = rest[len(part):]
			}
			_ = client.CloseWrite()
		}()
		var got bytes.Buffer
		sizes := []int{1, 3, 100, 512, 17_000, 70_000}
		for i := 0; ; i++ {
			b := make([]byte, sizes[i%len(sizes)])
			n, err := server.Read(b)
			got.Write(b[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || n == 0 {
				t.Fatalf("%d, %v after %d bytes", n, err, got.Len())
			}
		}
		if !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("%d of %d bytes, or other ones", got.Len(), len(sent))
		}
	}
}

// Each record is read before the next one is sent, so every read begins with waiting.
func TestConnPingPong(t *testing.T) {
	server, client := connPair(t, false)
	var done sync.WaitGroup
	done.Go(func() { _, _ = io.Copy(server, server) })
	for i := range 2000 {
		want := bytes.Repeat([]byte{byte(i)}, 1+i%3000)
		if _, err := client.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	_ = client.Close()
	done.Wait()
}

func TestConnDeadline(t *testing.T) {
	server, client := connPair(t, false)
	b := make([]byte, 100)
	if _, err := client.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(b); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for range 2 { // also when it waits for the second time
		_ = server.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := server.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d, %v", n, err)
		}
		if !server.(*Conn).dry {
			t.Error("who waits again after a deadline waits inside TLS, with a buffer")
		}
	}
	_ = server.SetReadDeadline(time.Time{})
	if _, err := client.Write([]byte("three")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(b); n != 5 || err != nil {
		t.Fatalf("after a timeout: %d, %v", n, err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := server.Read(b); waiting <- err }()
	_ = server.SetReadDeadline(time.Unix(1, 0)) // how a reader is interrupted
	if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// Closing never waits for a client that does not read.
func TestCloseDoesNotWait(t *testing.T) {
	server, _ := connPair(t, false)
	_ = server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for block := make([]byte, 1<<20); ; {
		if _, err := server.Write(block); err != nil {
			break // the client's window and the kernel's buffers are full
		}
	}
	began := time.Now()
	_ = server.Close()
	if took := time.Since(began); took > 4*time.Second { // TLS alone waits for 5
		t.Errorf("it took %v", took)
	}
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("a closed connection is read")
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	server, client := connPair(t, false)
	if err := reach(server, client); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.(*Conn).Wait() }()
	_ = server.Close()
	if err := <-ended; err == nil {
		t.Log("the wait returned; the read tells") // it may have seen the client's answer first
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("a closed connection is read")
		}
	}
}

// reach sends something from one to the other.
func reach(server, client net.Conn) error {
	if _, err := client.Write([]byte("x")); err != nil {
		return err
	}
	_, err := server.Read(make([]byte, 10))
	return err
}
