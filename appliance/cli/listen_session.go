package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second
	closeTimeout     = 2 * time.Second // for the appliance to take our last acks and say goodbye
	maxFrame         = 16 << 20        // of what the appliance sends at once; its own bound is far lower
)

// Ids of our requests on the WebSocket.
const (
	helloID = 1
	subID   = 2
)

// session is one connection of listen. The goroutine that runs it owns it.
type session struct {
	l     *listening
	conn  *websocket.Conn
	quiet time.Duration // silence after which the connection is dead
}

// event is one object of the WebSocket (DESIGN §8).
type event struct {
	ID      int             `json:"id"`
	Welcome *welcome        `json:"welcome"`
	OK      *subscribed     `json:"ok"`
	Msg     json.RawMessage `json:"msg"`
	Error   *problem        `json:"error"`
	Bye     *bye            `json:"bye"`
}

type welcome struct {
	PingMS int64 `json:"ping_ms"`
}

type subscribed struct {
	Gap bool `json:"gap"`
}

type bye struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	RetryMS int64  `json:"retry_ms"`
}

// connect opens a connection. With a token the handshake carries it; without one we are the
// control socket's owner, or anonymous, and the hello says so.
func (l *listening) connect(ctx context.Context) (*session, error) {
	d := websocket.Dialer{NetDialContext: l.client.dial, TLSClientConfig: l.client.tls, HandshakeTimeout: handshakeTimeout, Subprotocols: []string{"edgepost.v1.json"}}
	h := http.Header{}
	if l.client.auth != "" {
		h.Set("Authorization", l.client.auth)
	}
	conn, resp, err := d.DialContext(ctx, "ws"+strings.TrimPrefix(l.client.base, "http")+"/v1/ws", h)
	if err != nil {
		if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
			f := failureOf(l.client.unreachable(ctx, err))
			return nil, &retry{text: f.text, cause: f}
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // gorilla gives the first 1 KiB of it
		f := failureOf(l.client.refusal(resp, body))
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
			return nil, &retry{text: f.text, cause: f}
		}
		return nil, f
	}
	conn.SetReadLimit(maxFrame)
	return &session{l: l, conn: conn, quiet: time.Minute}, nil
}

// run reads until the command is done (nil), the connection ends (a [retry]) or nothing more is to
// be had (any other error).
func (s *session) run(ctx context.Context) error {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }) // wakes the reader
	defer stop()
	s.conn.SetPingHandler(func(data string) error {
		s.awaken(ctx)
		return s.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTimeout))
	})
	if s.l.client.auth == "" {
		if err := s.write(fmt.Appendf(nil, `{"id":%d,"hello":{}}`, helloID)); err != nil {
			return s.lost(err)
		}
	}
	for {
		s.awaken(ctx)
		_, frame, err := s.conn.ReadMessage()
		if err != nil {
			if ctx.Err() != nil {
				s.goodbye()
				return nil
			}
			return s.lost(err)
		}
		if err := s.frame(frame); err != nil || s.l.done() {
			if err == nil {
				s.goodbye()
			}
			return err
		}
	}
}

// awaken moves the read deadline: something came. A deadline that ctx's end has set stays.
func (s *session) awaken(ctx context.Context) {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.quiet))
	if ctx.Err() != nil {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// goodbye closes in order, so that the appliance has taken everything that we wrote before.
func (s *session) goodbye() {
	deadline := time.Now().Add(closeTimeout)
	if s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline) != nil {
		return
	}
	_ = s.conn.SetReadDeadline(deadline)
	for {
		if _, _, err := s.conn.NextReader(); err != nil {
			return
		}
	}
}

func (s *session) write(obj []byte) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.conn.WriteMessage(websocket.TextMessage, obj)
}

// lost words the end of a connection.
func (s *session) lost(err error) error {
	if ce := (*websocket.CloseError)(nil); errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure {
		return s.ended(ce.Code, ce.Text, 0)
	}
	text := "the connection is lost"
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		text = "the appliance is silent"
	}
	return &retry{text: text}
}

// Close codes of package ws that end the command; after all others it connects again.
const (
	closeProtocol     = 4002
	closeUnauthorized = 4003
	closeTooLarge     = 4009
	closeTakenOver    = 4010
	closeRevoked      = 4011
)

// ended words the appliance's goodbye.
func (s *session) ended(code int, reason string, after time.Duration) error {
	text := fmt.Sprintf("the appliance ended the connection: %s (%d)", printable(reason), code)
	switch code {
	case closeTakenOver:
		return &failure{exitFailed, "another connection took the inbox over (4010)", "a device has one link at a time; the newest wins"}
	case closeUnauthorized, closeRevoked:
		return &failure{exitRefused, text, "check the token; the device or key may have been removed"}
	case closeProtocol, closeTooLarge:
		return &failure{exitFailed, text, "is the appliance of another version? see: edgepost status"}
	}
	return &retry{text: text, after: after}
}

// frame takes the objects of one frame, one a line, and acknowledges what it showed.
func (s *session) frame(frame []byte) error {
	acks := map[int]uint64{} // the newest shown seq by sub
	for obj := range bytes.SplitSeq(frame, []byte{'\n'}) {
		if len(bytes.TrimSpace(obj)) == 0 {
			continue
		}
		var e event
		if err := json.Unmarshal(obj, &e); err != nil {
			return fmt.Errorf("read what the appliance sent (is it of this version?): %w", err)
		}
		if len(e.Msg) > 0 {
			if err := s.msg(e.Msg, acks); err != nil {
				return err
			}
			if s.l.done() {
				break
			}
			continue
		}
		if err := s.event(&e); err != nil {
			_ = s.ack(acks) // the connection ends; what is not acknowledged comes again
			return err
		}
	}
	return s.ack(acks)
}

// msg shows a message and notes that it is to be acknowledged. Volatile ones (seq 0) are not.
func (s *session) msg(doc []byte, acks map[int]uint64) error {
	var m messageJSON
	if err := json.Unmarshal(doc, &m); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	if err := s.l.show(doc, &m); err != nil {
		return err
	}
	if m.Seq > 0 {
		acks[m.Sub] = m.Seq
	}
	return nil
}

func (s *session) ack(acks map[int]uint64) error {
	for sub, seq := range acks {
		if err := s.write(fmt.Appendf(nil, `{"ack":{"sub":%d,"upto":%d}}`, sub, seq)); err != nil {
			return s.lost(err)
		}
	}
	return nil
}

func (s *session) event(e *event) error {
	switch {
	case e.Welcome != nil:
		if e.Welcome.PingMS > 0 {
			s.quiet = 3 * time.Duration(e.Welcome.PingMS) * time.Millisecond // two pings may be lost
		}
		s.l.backoff = firstBackoff
		if s.l.device != "" {
			return nil
		}
		sub := struct {
			ID  int `json:"id"`
			Sub struct {
				Topic string `json:"topic"`
				After string `json:"after,omitempty"`
			} `json:"sub"`
		}{ID: subID}
		sub.Sub.Topic, sub.Sub.After = s.l.filter, s.l.last
		b, err := json.Marshal(&sub)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		if err := s.write(b); err != nil {
			return s.lost(err)
		}
	case e.OK != nil && e.OK.Gap:
		s.l.call.note("some messages since the last one are no longer kept")
	case e.Error != nil && (e.ID == helloID || e.ID == subID):
		return e.Error.failure(s.l.client.auth != "")
	case e.Error != nil:
		s.l.call.note("%s (%s)", printable(e.Error.Detail), printable(e.Error.Code))
	case e.Bye != nil:
		return s.ended(e.Bye.Code, e.Bye.Reason, time.Duration(e.Bye.RetryMS)*time.Millisecond)
	}
	return nil
}
