package mqtt

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Subprotocol is what a WebSocket client must ask for [MQTT-6.0.0-3]; the older name is understood.
const (
	Subprotocol    = "mqtt"
	subprotocolOld = "mqttv3.1"
)

func newUpgrader() websocket.Upgrader {
	return websocket.Upgrader{
		ReadBufferSize:  512,
		WriteBufferSize: 1024,
		WriteBufferPool: &sync.Pool{},
		Subprotocols:    []string{Subprotocol, subprotocolOld},
		CheckOrigin:     func(*http.Request) bool { return true }, // the caller's guard has looked already
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			refuseHTTP(w, status, message.Problemf(message.CodeBadRequest, "%s", strings.TrimPrefix(reason.Error(), "websocket: ")))
		},
	}
}

// ServeHTTP upgrades to MQTT over WebSocket (5.0 §6) and returns at once; the session goes on by
// itself. Credentials of the request are used when the CONNECT has none. The caller has checked the
// Origin header. Refusals are problem+json: 400 another subprotocol, 401, 426, 503.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		refuseHTTP(w, http.StatusUpgradeRequired, message.Problemf(message.CodeBadRequest,
			"this address speaks MQTT over WebSocket, subprotocol %s", Subprotocol))
		return
	}
	if !offers(websocket.Subprotocols(r)) {
		refuseHTTP(w, http.StatusBadRequest, message.Problemf(message.CodeBadRequest,
			"the subprotocol %s was not asked for; it is the only one spoken here", Subprotocol))
		return
	}
	early, c, err := s.early(r)
	if err != nil {
		p := message.ProblemOf(err)
		status := http.StatusUnauthorized
		switch {
		case p == nil:
			s.o.Log.Error("MQTT over WebSocket: authenticating failed", "error", err)
			p, status = message.Problemf(codeInternal, "the appliance failed to authenticate; its log says why"), http.StatusInternalServerError
		case p.Code == message.CodeTooMany:
			status = http.StatusTooManyRequests
		}
		refuseHTTP(w, status, p)
		return
	}
	if !s.hold() {
		refuseHTTP(w, http.StatusServiceUnavailable, message.Problemf(message.CodeTooMany, "all MQTT connections are in use; try again later"))
		return
	}
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.release(nil)
		return // the upgrader has answered
	}
	s.begin(&webConn{ws: conn, device: c.Device, shown: c.Shown}, c.Remote, early)
}

// early is what the request itself proves; nil when it carries nothing.
func (s *Server) early(r *http.Request) (*auth.Grant, auth.Credentials, error) {
	c, err := auth.FromRequest(r)
	if err != nil {
		return nil, c, err
	}
	if c.Empty() {
		g, _ := auth.GrantFrom(r.Context())
		return g, c, nil
	}
	ctx, cancel := s.request()
	defer cancel()
	g, err := s.o.Authenticator.Authenticate(ctx, c)
	return g, c, err
}

func offers(asked []string) bool {
	for _, a := range asked {
		if a == Subprotocol || a == subprotocolOld {
			return true
		}
	}
	return false
}

// refuseHTTP answers a request that stays HTTP with problem+json (RFC 9457).
func refuseHTTP(w http.ResponseWriter, status int, p *message.Problem) {
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="edgepost"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	body, err := json.Marshal(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": p.Code, "detail": p.Detail,
	})
	if err == nil { // a map of strings and an int always marshals
		_, _ = w.Write(body)
	}
}

// webConn is a WebSocket connection as a stream of bytes: a control packet may lie in several frames,
// and a frame may hold several packets (5.0 §6). One goroutine reads, one writes.
type webConn struct {
	ws     *websocket.Conn
	device string    // that the client's certificate names; "" none
	shown  string    // thumbprint of that certificate
	frame  io.Reader // nil: at the end of a frame
	once   sync.Once
}

// Device is the device of the client's certificate; "" without one.
func (c *webConn) Device() string { return c.device }

// Thumbprint names the client's certificate; "" without one.
func (c *webConn) Thumbprint() string { return c.shown }

var errText = errors.New("mqtt: a WebSocket frame that is not binary") // [MQTT-6.0.0-1]

// Read implements [net.Conn].
func (c *webConn) Read(b []byte) (int, error) {
	for {
		if c.frame == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				c.farewell(websocket.CloseUnsupportedData)
				return 0, errText
			}
			c.frame = r
		}
		n, err := c.frame.Read(b)
		if errors.Is(err, io.EOF) {
			c.frame, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write implements [net.Conn]: one binary frame.
func (c *webConn) Write(b []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *webConn) farewell(code int) {
	c.once.Do(func() {
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second)) // nobody may be there to read it
	})
}

// CloseWrite says that nothing more comes.
func (c *webConn) CloseWrite() error {
	c.farewell(websocket.CloseNormalClosure)
	return nil
}

// Close implements [net.Conn].
func (c *webConn) Close() error { return c.ws.Close() }

func (c *webConn) LocalAddr() net.Addr                { return c.ws.NetConn().LocalAddr() }
func (c *webConn) RemoteAddr() net.Addr               { return c.ws.NetConn().RemoteAddr() }
func (c *webConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
func (c *webConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }

// SetDeadline implements [net.Conn].
func (c *webConn) SetDeadline(t time.Time) error {
	return errors.Join(c.ws.SetReadDeadline(t), c.ws.SetWriteDeadline(t))
}
