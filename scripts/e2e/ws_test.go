package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// frame is any object that the appliance sends over WebSocket.
type frame struct {
	ID      int64            `json:"id"`
	Welcome *welcome         `json:"welcome"`
	Msg     *delivery        `json:"msg"`
	OK      *okay            `json:"ok"`
	Error   *problem         `json:"error"`
	Bye     *bye             `json:"bye"`
	Pong    *json.RawMessage `json:"pong"`
}

type welcome struct {
	Session, Epoch string
	MaxInflight    int   `json:"max_inflight"`
	MaxBytes       int64 `json:"max_bytes"`
	PingMS         int64 `json:"ping_ms"`
}

type delivery struct {
	Sub        int             `json:"sub"`
	Seq        uint64          `json:"seq"`
	ID         string          `json:"id"`
	Topic      string          `json:"topic"`
	CT         string          `json:"ct"`
	Attempt    int             `json:"attempt"`
	Priority   int             `json:"priority"`
	ExpiresIn  int64           `json:"expires_in"`
	From       string          `json:"from"`
	Data       json.RawMessage `json:"data"`
	Text       string          `json:"text"`
	DataBase64 []byte          `json:"data_base64"`
}

// payload is the message's text, however it travelled.
func (d *delivery) payload() string {
	switch {
	case d.Data != nil:
		return string(d.Data)
	case d.DataBase64 != nil:
		return string(d.DataBase64)
	default:
		return d.Text
	}
}

type okay struct {
	ID            string
	Seq           uint64
	Sub           int
	Gap           bool
	Subscriptions int
	Replayed      bool
}

type bye struct {
	Code    int
	Reason  string
	RetryMS int `json:"retry_ms"`
}

// link is one WebSocket connection. Reading is the caller's; writing is safe from several goroutines.
type link struct {
	conn *websocket.Conn
	wmu  sync.Mutex
	rest []frame // of the last WebSocket message, not yet returned
	hi   welcome
}

// dial connects and says hello with a token; name is a device's id or "" for a key.
func (g *gateway) dial(name, token string) (*link, error) {
	l, err := g.dialRaw(nil)
	if err != nil {
		return nil, err
	}
	hello := map[string]any{"token": token}
	if name != "" {
		hello["device"] = name
	}
	if err := l.send(map[string]any{"id": 1, "hello": hello}); err != nil {
		l.close()
		return nil, err
	}
	f, err := l.read(10 * time.Second)
	switch {
	case err != nil:
	case f.Error != nil:
		err = fmt.Errorf("hello: %s: %s", f.Error.Code, f.Error.Detail)
	case f.Welcome == nil:
		err = fmt.Errorf("hello was answered by %+v", f)
	default:
		l.hi = *f.Welcome
		return l, nil
	}
	l.close()
	return nil, err
}

// dialRaw connects and says nothing.
func (g *gateway) dialRaw(h http.Header) (*link, error) {
	d := websocket.Dialer{HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"edgepost.v1.json"}}
	conn, res, err := d.Dial("ws://"+g.addr+"/v1/ws", h)
	if err != nil {
		if res != nil {
			err = fmt.Errorf("%w: status %d", err, res.StatusCode)
		}
		return nil, err
	}
	return &link{conn: conn}, nil
}

// mustDial is dial for a test that needs it.
func (g *gateway) mustDial(name, token string) *link {
	g.t.Helper()
	l, err := g.dial(name, token)
	if err != nil {
		g.t.Fatalf("connect %q over WebSocket: %v", name, err)
	}
	g.t.Cleanup(l.close)
	return l
}

func (l *link) close() { l.conn.Close() }

// send writes one object.
func (l *link) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.sendText(b)
}

func (l *link) sendText(b []byte) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return l.conn.WriteMessage(websocket.TextMessage, b)
}

// errQuiet says that nothing came in time; the connection cannot be read any more after it.
var errQuiet = errors.New("nothing came")

// read returns the next object; several may come in one WebSocket message, one a line.
func (l *link) read(wait time.Duration) (frame, error) {
	for len(l.rest) == 0 {
		l.conn.SetReadDeadline(time.Now().Add(wait))
		_, b, err := l.conn.ReadMessage()
		if err != nil {
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() {
				err = errQuiet
			}
			return frame{}, err
		}
		for line := range bytes.Lines(b) {
			var f frame
			if err := json.Unmarshal(line, &f); err != nil {
				return frame{}, fmt.Errorf("received %.200q: %w", line, err)
			}
			l.rest = append(l.rest, f)
		}
	}
	f := l.rest[0]
	l.rest = l.rest[1:]
	return f, nil
}

// next is read for a test that needs it.
func (l *link) next(t *testing.T) frame {
	t.Helper()
	f, err := l.read(15 * time.Second)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return f
}

// msg is the next object, which must be a delivery.
func (l *link) msg(t *testing.T) delivery {
	t.Helper()
	f := l.next(t)
	if f.Msg == nil {
		t.Fatalf("received %s, want a delivery", show(f))
	}
	return *f.Msg
}

// ask sends an object with an id and returns its answer; deliveries on the way are dropped.
func (l *link) ask(t *testing.T, id int64, v map[string]any) frame {
	t.Helper()
	v["id"] = id
	if err := l.send(v); err != nil {
		t.Fatal(err)
	}
	for {
		if f := l.next(t); f.ID == id {
			return f
		} else if f.Msg == nil {
			t.Fatalf("received %s, want the answer to %v", show(f), v)
		}
	}
}

// ack acknowledges everything up to seq in a device's inbox.
func (l *link) ack(t *testing.T, seq uint64) {
	t.Helper()
	if err := l.send(map[string]any{"ack": map[string]any{"sub": 0, "upto": seq}}); err != nil {
		t.Fatal(err)
	}
}

// ping makes sure that everything sent before was read by the appliance.
func (l *link) ping(t *testing.T) {
	t.Helper()
	if err := l.send(map[string]any{"ping": 1}); err != nil {
		t.Fatal(err)
	}
	for l.next(t).Pong == nil {
		continue
	}
}

func show(f frame) string {
	b, _ := json.Marshal(f)
	return string(b)
}
