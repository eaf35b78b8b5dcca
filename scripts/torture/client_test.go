package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// api is an HTTP client of one gateway with one credential.
type api struct {
	g     *gateway
	token string
	http  *http.Client
}

func (g *gateway) api(token string) *api {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &api{g: g, token: token, http: &http.Client{Transport: tr, Timeout: 30 * time.Second}}
}

// stored is the answer to a publish.
type stored struct {
	ID  string
	Seq uint64
}

// place is where a message stands for one subscription.
type place struct {
	Subscription string
	State        string
	Reason       string
	Attempt      int
}

// status is what the tests read of /v1/status.
type status struct {
	Head          uint64
	LogBytes      int64 `json:"log_bytes"`
	LogLimit      int64 `json:"log_limit"`
	Storage       string
	Connected     int64
	Subscriptions int64
	Owed          int64
	DeadLetters   int64 `json:"dead_letters"`
	Published     int64
	Delivered     int64
	Expired       int64
	Dead          int64
	Lost          int64
	Commits       int64
	ClockTrusted  bool `json:"clock_trusted"`
	Warnings      []string
}

// do makes one request; headers are pairs. The error is only about the connection.
func (a *api) do(method, path string, body []byte, headers ...string) (code int, answer []byte, err error) {
	req, err := http.NewRequest(method, "http://"+a.g.addr+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := a.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return res.StatusCode, answer, err
}

// publish tries to publish once. code is 0 when there was no answer, problem is the problem's code.
func (a *api) publish(topic, payload string, headers ...string) (s stored, code int, problem string) {
	code, body, err := a.do(http.MethodPost, "/v1/publish/"+topic, []byte(payload), append([]string{"Content-Type", "text/plain"}, headers...)...)
	if err != nil {
		return s, 0, err.Error()
	}
	var p struct{ Code, Detail string }
	if code != http.StatusCreated {
		json.Unmarshal(body, &p)
		return s, code, p.Code
	}
	if json.Unmarshal(body, &s) != nil || s.ID == "" {
		return s, 0, "answer " + string(body)
	}
	return s, code, ""
}

// get asks for a JSON document.
func (a *api) get(path string, v any) error {
	code, body, err := a.do(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %.300s", path, code, body)
	}
	return json.Unmarshal(body, v)
}

// status asks for the status; the test fails when there is none.
func (a *api) status(t *testing.T) (s status) {
	t.Helper()
	if err := a.get("/v1/status", &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// errGone says that a message is no longer known.
var errGone = errors.New("the appliance does not know this message")

// trace asks where a message stands.
func (a *api) trace(id string) (map[string]place, error) {
	code, body, err := a.do(http.MethodGet, "/v1/messages/"+id, nil)
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusNotFound:
		return nil, errGone
	case code != http.StatusOK:
		return nil, fmt.Errorf("trace %s: status %d: %.300s", id, code, body)
	}
	var tr struct{ States []place }
	if err := json.Unmarshal(body, &tr); err != nil {
		return nil, err
	}
	places := make(map[string]place, len(tr.States))
	for _, p := range tr.States {
		places[p.Subscription] = p
	}
	return places, nil
}

// frame is any object that the appliance sends over WebSocket.
type frame struct {
	ID      int64            `json:"id"`
	Welcome *json.RawMessage `json:"welcome"`
	Msg     *delivery        `json:"msg"`
	OK      *okay            `json:"ok"`
	Error   *problem         `json:"error"`
}

type delivery struct {
	Sub     int    `json:"sub"`
	Seq     uint64 `json:"seq"`
	ID      string `json:"id"`
	Topic   string `json:"topic"`
	Attempt int    `json:"attempt"`
	Text    string `json:"text"`
}

type okay struct {
	ID  string
	Seq uint64
	Sub int
}

type problem struct {
	Code   string
	Detail string
}

// link is one WebSocket connection. Reading is the caller's; writing is safe from several goroutines.
type link struct {
	conn *websocket.Conn
	wmu  sync.Mutex
	rest []frame // of the last WebSocket message, not yet returned
}

// dial connects and says hello with a token; name is a device's id or "" for a key.
func (g *gateway) dial(name, token string) (*link, error) {
	d := websocket.Dialer{HandshakeTimeout: 20 * time.Second, Subprotocols: []string{"edgepost.v1.json"}}
	conn, res, err := d.Dial("ws://"+g.addr+"/v1/ws", nil)
	if err != nil {
		if res != nil {
			res.Body.Close()
		}
		return nil, err
	}
	l := &link{conn: conn}
	hello := map[string]any{"token": token}
	if name != "" {
		hello["device"] = name
	}
	err = l.send(map[string]any{"id": 1, "hello": hello})
	if err == nil {
		var f frame
		if f, err = l.read(20 * time.Second); err == nil && f.Welcome == nil {
			err = fmt.Errorf("hello was answered by %+v", f.Error)
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *link) close() { l.conn.Close() }

// send writes one object.
func (l *link) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return l.conn.WriteMessage(websocket.TextMessage, b)
}

// read returns the next object; several may come in one WebSocket message, one a line. After an
// error, silence included, the connection cannot be read any more.
func (l *link) read(wait time.Duration) (frame, error) {
	for len(l.rest) == 0 {
		l.conn.SetReadDeadline(time.Now().Add(wait))
		_, b, err := l.conn.ReadMessage()
		if err != nil {
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

// post sends a JSON document that must be taken; the answer goes to v.
func (a *api) post(path string, doc, v any) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	code, answer, err := a.do(http.MethodPost, path, body, "Content-Type", "application/json")
	if err != nil {
		return err
	}
	if code/100 != 2 {
		return fmt.Errorf("POST %s: status %d: %.300s", path, code, answer)
	}
	return json.Unmarshal(answer, v)
}

// put makes a change that needs no body.
func (a *api) put(path string) error { return a.change(http.MethodPut, path) }

// change makes a request without a body that must succeed.
func (a *api) change(method, path string) error {
	code, answer, err := a.do(method, path, nil)
	if err == nil && code/100 != 2 {
		err = fmt.Errorf("%s %s: status %d: %.300s", method, path, code, answer)
	}
	return err
}
