package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// gateway plays the appliance's end of the WebSocket: one script for each connection, in order.
type gateway struct {
	t       *testing.T
	mu      sync.Mutex
	scripts []func(*peer)
	headers []http.Header
	over    sync.WaitGroup
}

// peer is the appliance's end of one connection.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if r.URL.Path != "/v1/ws" || len(g.scripts) == 0 {
		g.mu.Unlock()
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"code":"unauthorized","detail":"this token is not known"}`)
		return
	}
	script := g.scripts[0]
	g.scripts = g.scripts[1:]
	g.headers = append(g.headers, r.Header)
	g.over.Add(1)
	g.mu.Unlock()
	defer g.over.Done()
	up := websocket.Upgrader{Subprotocols: []string{"edgepost.v1.json"}}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		g.t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	script(&peer{g.t, conn})
}

func (p *peer) send(objects ...string) {
	if err := p.conn.WriteMessage(websocket.TextMessage, []byte(strings.Join(objects, "\n"))); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) wants(want string) {
	p.t.Helper()
	_, got, err := p.conn.ReadMessage()
	if err != nil || string(got) != want {
		p.t.Errorf("listen sent %q, %v; want %q", got, err, want)
	}
}

// wantsClose expects an orderly goodbye and nothing before it.
func (p *peer) wantsClose() {
	p.t.Helper()
	_, got, err := p.conn.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		p.t.Errorf("listen sent %q, %v; want a close frame", got, err)
	}
}

const hello = `{"id":1,"welcome":{"session":"s","epoch":"k3f9w2xq","max_inflight":64,"max_bytes":262144,"ping_ms":25000}}`

func msg(sub, seq int, topic, data string) string {
	return fmt.Sprintf(`{"msg":{"sub":%d,"seq":%d,"id":"k3f9w2xq-%d","topic":"%s","ct":"application/json","data":%s}}`, sub, seq, seq, topic, data)
}

// output is a stdout that can be looked at while the command runs, and that can fail.
type output struct {
	mu  sync.Mutex
	b   bytes.Buffer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// listen runs the command line against the scripts and waits for both sides.
func listen(ctx context.Context, t *testing.T, out *output, line string, scripts ...func(*peer)) (code int, stderr string, headers []http.Header) {
	t.Helper()
	g := &gateway{t: t, scripts: scripts}
	dir := onSocket(t, g)
	errs := &output{}
	code = Run(ctx, Env{strings.NewReader(""), out, errs, func(string) string { return "" }, "1", time.Time{}}, append([]string{"edgepost", "listen", "-data", dir}, words(line)...))
	g.over.Wait()
	if len(g.scripts) > 0 {
		t.Errorf("%d connections were not made", len(g.scripts))
	}
	return code, errs.String(), g.headers
}

// A device acknowledges what was written, and only then; -n ends in order after the ack.
func TestListenAsDevice(t *testing.T) {
	out := &output{}
	code, stderr, headers := listen(t.Context(), t, out, "-device lamp1 -token ep_x -n 3", func(p *peer) {
		p.send(hello, msg(0, 1, "device/lamp1/in/set", `{"on": true}`), msg(0, 2, "device/lamp1/in/x", `"a\nb"`))
		p.wants(`{"ack":{"sub":0,"upto":2}}`)
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("acknowledged before %d of 2 lines were written", 2-n)
		}
		p.send(msg(0, 3, "device/lamp1/in/y", `1`), msg(0, 4, "device/lamp1/in/z", `2`))
		p.wants(`{"ack":{"sub":0,"upto":3}}`)
		p.wantsClose()
	})
	want := "device/lamp1/in/set {\"on\":true}\ndevice/lamp1/in/x \"a\\nb\"\ndevice/lamp1/in/y 1\n"
	if code != exitOK || out.String() != want || stderr != "" {
		t.Errorf("exit %d\n%s%s", code, out, stderr)
	}
	if got := headers[0].Get("Authorization"); got != "Basic bGFtcDE6ZXBfeA==" {
		t.Errorf("Authorization is %q", got)
	}
}

// What cannot be written is not acknowledged.
func TestListenToFullDisk(t *testing.T) {
	out := &output{err: errors.New("no space left on device")}
	code, stderr, _ := listen(t.Context(), t, out, "-device lamp1 -token ep_x", func(p *peer) {
		p.send(hello, msg(0, 1, "device/lamp1/in/set", `1`))
		if _, got, err := p.conn.ReadMessage(); err == nil {
			t.Errorf("acknowledged: %s", got)
		}
	})
	if code != exitFailed || !strings.Contains(stderr, "no space left") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// The owner says hello and subscribes; after a lost connection it goes on behind the last message
// and shows none twice; volatile messages are not acknowledged.
func TestListenToFilter(t *testing.T) {
	out := &output{}
	code, stderr, headers := listen(t.Context(), t, out, "alarm/# -n 4 -json",
		func(p *peer) {
			p.wants(`{"id":1,"hello":{}}`)
			p.send(hello)
			p.wants(`{"id":2,"sub":{"topic":"alarm/#"}}`)
			p.send(`{"id":2,"ok":{"sub":1,"gap":false}}`, msg(1, 7, "alarm/a", `1`))
			p.wants(`{"ack":{"sub":1,"upto":7}}`)
			p.send(`{"msg":{"sub":1,"seq":0,"topic":"alarm/v","text":"volatile"}}`)
			p.send(`{"pong":1}`, `{"error":{"code":"not-delivered","detail":"7 is settled"}}`)
			p.conn.NetConn().Close()
		},
		func(p *peer) {
			p.wants(`{"id":1,"hello":{}}`)
			p.send(hello)
			p.wants(`{"id":2,"sub":{"topic":"alarm/#","after":"k3f9w2xq-7"}}`)
			p.send(`{"id":2,"ok":{"sub":1,"gap":true}}`, msg(1, 7, "alarm/a", `1`), msg(1, 9, "alarm/b", `{"x":  2}`))
			p.wants(`{"ack":{"sub":1,"upto":9}}`)
			p.send(`{"bye":{"code":4012,"reason":"stopping","retry_ms":1}}`)
			p.conn.NetConn().Close()
		},
		func(p *peer) {
			p.wants(`{"id":1,"hello":{}}`)
			p.send(hello)
			p.wants(`{"id":2,"sub":{"topic":"alarm/#","after":"k3f9w2xq-9"}}`)
			p.send(`{"id":2,"ok":{"sub":1}}`, msg(1, 10, "alarm/c", `3`))
			p.wants(`{"ack":{"sub":1,"upto":10}}`)
			p.wantsClose()
		})
	want := `{"sub":1,"seq":7,"id":"k3f9w2xq-7","topic":"alarm/a","ct":"application/json","data":1}
{"sub":1,"seq":0,"topic":"alarm/v","text":"volatile"}
{"sub":1,"seq":9,"id":"k3f9w2xq-9","topic":"alarm/b","ct":"application/json","data":{"x":2}}
{"sub":1,"seq":10,"id":"k3f9w2xq-10","topic":"alarm/c","ct":"application/json","data":3}
`
	if code != exitOK || out.String() != want {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, part := range []string{"7 is settled (not-delivered)", "connection is lost", "connecting again in", "no longer kept", "stopping (4012)"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("standard error does not say %q:\n%s", part, stderr)
		}
	}
	if headers[0].Get("Authorization") != "" {
		t.Error("the owner sends credentials")
	}
}

// The ends that no new connection would change.
func TestListenEnds(t *testing.T) {
	closing := func(code int) func(*peer) {
		return func(p *peer) {
			p.send(hello)
			p.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "so it is"), time.Now().Add(time.Second))
		}
	}
	for _, c := range []struct {
		name   string
		script func(*peer)
		code   int
		says   string
	}{
		{"taken over", func(p *peer) { p.send(hello, `{"bye":{"code":4010,"reason":"taken over","retry_ms":2000}}`) }, exitFailed, "another connection took the inbox over"},
		{"removed", closing(4011), exitRefused, "so it is (4011)"},
		{"unauthorized", closing(4003), exitRefused, "check the token"},
		{"protocol", closing(4002), exitFailed, "another version"},
		{"forbidden", func(p *peer) {
			p.send(hello)
			p.wants(`{"id":2,"sub":{"topic":"x"}}`)
			p.send(`{"id":2,"error":{"code":"forbidden","detail":"not x"}}`)
		}, exitRefused, "not x (forbidden)"},
		{"nonsense", func(p *peer) { p.send(hello, `HTTP/1.1`) }, exitFailed, "is it of this version?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stderr, _ := listen(t.Context(), t, &output{}, "x -token ep_x", func(p *peer) {
				c.script(p)
				p.conn.ReadMessage()
			})
			if code != c.code || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "again") {
				t.Errorf("exit %d, want %d; %q", code, c.code, stderr)
			}
		})
	}
	code, stderr, _ := listen(t.Context(), t, &output{}, "x -token wrong")
	if code != exitRefused || !strings.Contains(stderr, "this token is not known (unauthorized)") {
		t.Errorf("a refused handshake: exit %d, %q", code, stderr)
	}
}

// An interrupt ends it in order, with exit code 0.
func TestListenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &output{}
	code, stderr, _ := listen(ctx, t, out, "x -token ep_x", func(p *peer) {
		p.send(hello)
		p.wants(`{"id":2,"sub":{"topic":"x"}}`)
		p.send(msg(1, 1, "x", `1`))
		p.wants(`{"ack":{"sub":1,"upto":1}}`)
		cancel()
		p.wantsClose()
	})
	if code != exitOK || out.String() != "x 1\n" || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
}

// A gateway that falls silent is left; pings count as life.
func TestListenToSilence(t *testing.T) {
	out := &output{}
	quick := strings.Replace(hello, "25000", "50", 1)
	code, stderr, _ := listen(t.Context(), t, out, "-device lamp1 -token ep_x -n 1",
		func(p *peer) {
			p.send(quick)
			p.conn.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(time.Second))
			p.conn.ReadMessage() // until it hangs up
		},
		func(p *peer) {
			p.send(hello, msg(0, 1, "device/lamp1/in/set", `1`))
			p.wants(`{"ack":{"sub":0,"upto":1}}`)
			p.wantsClose()
		})
	if code != exitOK || !strings.Contains(stderr, "the appliance is silent; connecting again") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestRingForgetsTheOldest(t *testing.T) {
	var r ring
	for i := range ringSize + 10 {
		r.add(fmt.Sprint(i))
	}
	if r.has("9") || !r.has("10") || !r.has(fmt.Sprint(ringSize+9)) || len(r.ids) != ringSize {
		t.Errorf("%d ids are remembered", len(r.ids))
	}
}
