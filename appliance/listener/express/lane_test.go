package express

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return new(net.TCPAddr) }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// seen writes down what a handler gets, and answers.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var h []string
	for name, v := range r.Header {
		h = append(h, fmt.Sprintf("%s=%q", name, v))
	}
	slices.Sort(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf("%s %s %q %q host %q length %d body %q err %v headers %s", r.Method, r.Proto, r.RequestURI, r.URL.EscapedPath(), r.Host, r.ContentLength, body, err, h))
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Location", "/x\r\nEvil: yes")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "number %d", len(s.list))
}

func options(h http.Handler) Options {
	return Options{
		Handler: h, Takes: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/p") },
		HeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 30 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// converse sends the parts to a server, a second apart, and returns what came back and what its handler saw.
func converse(t *testing.T, withLane bool, parts ...[]byte) (said, saw []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := new(seen)
		p := newPipes()
		var l net.Listener = p
		server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		var x *Lane
		if withLane {
			x = New(p, options(s))
			l = x
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
		})
		c := p.dial(t)
		serving.Go(func() {
			for i, part := range parts {
				if i > 0 {
					time.Sleep(time.Second) // of the bubble
				}
				if _, err := c.Write(part); err != nil {
					return // the server had enough
				}
			}
		})
		r := bufio.NewReader(c)
		for {
			answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
			if err != nil {
				break
			}
			body, _ := io.ReadAll(answer.Body)
			said = append(said, fmt.Sprintf("%s %q type %q location %q evil %q close %v", answer.Status, body,
				answer.Header.Get("Content-Type"), answer.Header.Get("Location"), answer.Header.Get("Evil"), answer.Close))
		}
		c.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if x != nil {
			if err := x.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		serving.Wait()
		saw = s.list
	})
	return said, saw
}

func request(head string, body string) string {
	return "POST /p/a%2Fb HTTP/1.1\r\nHost: gw\r\n" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
}

var conversations = map[string]string{
	"one":                request("", "hello"),
	"none":               "",
	"no body":            "POST /p HTTP/1.1\r\nHost: gw\r\n\r\n",
	"pipelined":          request("A: 1\r\n", "x") + request("A: 1\r\n", "yy") + request("A: 2\r\n", ""),
	"then another":       request("", "x") + "GET /p HTTP/1.1\r\nHost: gw\r\n\r\n" + request("", "z"),
	"not taken":          request("", "x") + "POST /other HTTP/1.1\r\nHost: gw\r\nContent-Length: 2\r\n\r\nok" + request("", "z"),
	"chunked":            "POST /p HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + request("", "z"),
	"length and chunked": "POST /p HTTP/1.1\r\nHost: gw\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"two lengths":        "POST /p HTTP/1.1\r\nHost: gw\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
	"length twice":       "POST /p HTTP/1.1\r\nHost: gw\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"negative length":    "POST /p HTTP/1.1\r\nHost: gw\r\nContent-Length: -3\r\n\r\nabc",
	"plus length":        "POST /p HTTP/1.1\r\nHost: gw\r\nContent-Length: +3\r\n\r\nabc",
	"close":              request("Connection: close\r\n", "x") + request("", "y"),
	"keep-alive":         request("Connection: Keep-Alive\r\n", "x") + request("", "y"),
	"upgrade":            request("Connection: Upgrade\r\nUpgrade: x\r\n", "x"),
	"expect":             request("Expect: 100-continue\r\n", "x"),
	"expect nonsense":    request("Expect: 1\r\n", "x"),
	"trailer":            request("Trailer: A\r\n", "x"),
	"http 1.0":           "POST /p HTTP/1.0\r\nHost: gw\r\nContent-Length: 1\r\n\r\nx",
	"http 1.2":           "POST /p HTTP/1.2\r\nHost: gw\r\nContent-Length: 1\r\n\r\nx",
	"no host":            "POST /p HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
	"two hosts":          "POST /p HTTP/1.1\r\nHost: a\r\nHOST: b\r\nContent-Length: 1\r\n\r\nx",
	"bad host":           "POST /p HTTP/1.1\r\nHost: a b\r\nContent-Length: 1\r\n\r\nx",
	"absolute":           "POST http://other/p HTTP/1.1\r\nHost: gw\r\nContent-Length: 1\r\n\r\nx",
	"folded":             "POST /p HTTP/1.1\r\nHost: gw\r\nA: b\r\n c\r\nContent-Length: 1\r\n\r\nx",
	"bare LF":            "POST /p HTTP/1.1\nHost: gw\nContent-Length: 1\n\nx",
	"mixed ends":         "POST /p HTTP/1.1\r\nHost: gw\nA: b\r\nContent-Length: 1\r\n\r\nx",
	"control":            request("A: \x01\r\n", "x"),
	"space before colon": request("A : b\r\n", "x"),
	"no colon":           request("nonsense\r\n", "x"),
	"bad target":         "POST /p%zz HTTP/1.1\r\nHost: gw\r\nContent-Length: 1\r\n\r\nx",
	"dots":               "POST /p/../q HTTP/1.1\r\nHost: gw\r\nContent-Length: 1\r\n\r\nx",
	"half a head":        request("", "x") + "POST /p HTTP/1.1\r\nHo",
	"half a body":        request("", "x")[:len(request("", "x"))-1],
	"large body":         request("", strings.Repeat("x", 100_000)) + request("", "y"),
	"large head":         request("A: "+strings.Repeat("x", 20_000)+"\r\n", "x") + request("", "y"),
	"line ends between":  request("", "x") + "\r\n" + request("", "y") + "\n\n\n\n\n" + request("", "z"),
	"preface":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"noise":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

// TestSameAsNetHTTP holds the lane's promise: nobody can tell that it is there.
func TestSameAsNetHTTP(t *testing.T) {
	for name, text := range conversations {
		t.Run(name, func(t *testing.T) {
			for _, cut := range []int{len(text), len(text) / 2, min(3, len(text)), max(len(text)-1, 0)} {
				same(t, []byte(text[:cut]), []byte(text[cut:]))
			}
		})
	}
}

func same(t *testing.T, parts ...[]byte) {
	t.Helper()
	said, saw := converse(t, true, parts...)
	wantSaid, wantSaw := converse(t, false, parts...)
	said, wantSaid = withoutComplaint(said), withoutComplaint(wantSaid)
	if !slices.Equal(said, wantSaid) {
		t.Errorf("%.300q is answered with\n%q, by net/http with\n%q", bytes.Join(parts, nil), said, wantSaid)
	}
	if !slices.Equal(saw, wantSaw) {
		t.Errorf("%.300q is seen as\n%q, by net/http as\n%q", bytes.Join(parts, nil), saw, wantSaw)
	}
}

// withoutComplaint leaves out a last 400: whether net/http says it or only hangs up depends, for an end that is
// no request, on how many bytes of it came when.
func withoutComplaint(said []string) []string {
	if n := len(said); n > 0 && strings.HasPrefix(said[n-1], "400 ") {
		return said[:n-1]
	}
	return said
}

func FuzzSameAsNetHTTP(f *testing.F) {
	for _, text := range conversations {
		if len(text) < 2000 {
			f.Add([]byte(text), uint16(len(text)/2))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, cut uint16) {
		if len(text) > 20_000 {
			return
		}
		at := min(int(cut), len(text))
		same(t, text[:at], text[at:])
	})
}

// alone runs a lane whose server is never needed.
func alone(t *testing.T, h http.Handler) (*Lane, *pipes) {
	p := newPipes()
	return New(p, options(h)), p
}

// TestTimeouts: a client that sends nothing is cut, one that stalls in a request is net/http's.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		after      time.Duration
		handed     bool
	}{
		{"before the first byte", "", 5 * time.Second, false},
		{"in the first head", "POST /p HTTP/1.1\r\n", time.Second, true},
		{"in the body", "POST /p HTTP/1.1\r\nHost: gw\r\nContent-Length: 5\r\n\r\nabc", time.Second, true},
		{"between requests", request("", "x"), time.Minute, false},
		{"in the second head", request("", "x") + "POST ", time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, p := alone(t, new(seen))
				began := time.Now()
				client := p.dial(t)
				var all sync.WaitGroup
				all.Go(func() { _, _ = client.Write([]byte(c.text)) }) // ends with the text or the connection
				var handed bool
				all.Go(func() {
					if conn, err := x.Accept(); err == nil {
						handed = true
						conn.Close()
					}
				})
				if _, err := io.Copy(io.Discard, client); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != c.after {
					t.Errorf("ended after %v, want %v", took, c.after)
				}
				if err := errors.Join(x.Close(), x.Wait(t.Context())); err != nil {
					t.Error(err)
				}
				all.Wait()
				if handed != c.handed {
					t.Errorf("handed to net/http: %v, want %v", handed, c.handed)
				}
			})
		})
	}
}

// TestClose: who waits is cut, who is served gets the answer, and its request learns of it.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reasons []error
		x, p := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			reasons = append(reasons, r.Context().Err())
			time.Sleep(time.Second) // of the bubble
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		idle, busy := p.dial(t), p.dial(t)
		if _, err := busy.Write([]byte(request("", "x"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("an idle connection reads %v", err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(busy), nil)
		if err != nil || answer.StatusCode != http.StatusServiceUnavailable || !answer.Close {
			t.Errorf("answer %v, %v; want 503 and the end", answer, err)
		}
		if err := x.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if len(reasons) != 1 || !errors.Is(reasons[0], context.Canceled) {
			t.Errorf("the request learned %v", reasons)
		}
		if _, err := x.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept from a closed lane: %v", err)
		}
	})
}

// TestWaitIsLimited: a client that does not read its answer does not keep the lane from ending.
func TestWaitIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, p := alone(t, new(seen))
		c := p.dial(t)
		if _, err := c.Write([]byte(request("", "x"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // now it writes, into a pipe that nobody reads
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := x.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
	})
}

// TestSlowReader: an answer that nobody takes ends the connection.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, p := alone(t, new(seen))
		c := p.dial(t)
		if _, err := c.Write([]byte(request("", "x"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second) // of the bubble
		synctest.Wait()
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("the connection is still open")
		}
		if err := errors.Join(x.Close(), x.Wait(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// TestPanic: a handler that panics ends its connection only.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, p := alone(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic("no")
			}
		}))
		x.o.Takes = func(*http.Request) bool { return true }
		other := p.dial(t)
		c := p.dial(t)
		if _, err := c.Write([]byte("POST /panic HTTP/1.1\r\nHost: gw\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read %v", err)
		}
		go func() { _, _ = other.Write([]byte(request("", "x"))) }() // its answer tells
		if answer, err := http.ReadResponse(bufio.NewReader(other), nil); err != nil || answer.StatusCode != 200 {
			t.Errorf("the other connection: %v, %v", answer, err)
		}
		other.Close()
		if err := errors.Join(x.Close(), x.Wait(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// TestDescriptor holds that what the lane passes on can be written to and waited for by its descriptor,
// once nothing is unread here.
func TestDescriptor(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := New(tcp, options(new(seen)))
	defer func() {
		x.Close()
		if err := x.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	client, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const request = "GET /v1/ws HTTP/1.1\r\n"
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	conn, err := x.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.(syscall.Conn).SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a descriptor beside unread input: error %v", err)
	}
	wrapped := conn.(interface{ Bare() net.Conn })
	if bare := wrapped.Bare(); bare != nil {
		t.Error("the connection itself beside unread input")
	}
	if _, err := io.ReadFull(conn, make([]byte, len(request))); err != nil {
		t.Fatal(err)
	}
	if _, ok := wrapped.Bare().(*net.TCPConn); !ok {
		t.Errorf("the connection itself is a %T", wrapped.Bare())
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Write(func(fd uintptr) bool {
		_, err = syscall.Write(int(fd), []byte("x"))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(client, b); err != nil || b[0] != 'x' {
		t.Errorf("read %q, error %v", b, err)
	}
}
