package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"edgepost/appliance"
	"edgepost/appliance/message"
)

const (
	dialTimeout   = 5 * time.Second  // a gateway on the LAN answers in milliseconds
	answerTimeout = 30 * time.Second // an fsync on worn flash can take seconds
	maxAnswer     = 64 << 20         // bytes of one answer: 10,000 devices are 3 MiB
)

// client talks to one appliance. Safe for concurrent use.
type client struct {
	http  *http.Client
	base  string // "http://host:port", without a slash at the end
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	tls   *tls.Config // nil: no https:// address was given
	auth  string      // value of the Authorization header, "" none
	where string      // for people: "data/control.sock", "http://192.168.1.1:8088"
	start string      // how to start an appliance there, "" when it is elsewhere
}

// client makes the client that the flags and the environment ask for. It connects later.
func (c *call) client() (*client, error) {
	cl := &client{}
	if c.token != "" {
		cl.auth = "Bearer " + c.token
		if strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, usage(c.cmd.name, "the token has characters that no token has")
		}
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	if c.url != "" {
		u, err := url.Parse(c.url)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, usage(c.cmd.name, "%q is not the address of an appliance; write one such as https://192.168.1.1:8448", clip(c.url))
		}
		if u.Scheme == "https" {
			if cl.tls, err = c.trust(); err != nil {
				return nil, err
			}
		}
		cl.base, cl.where = u.Scheme+"://"+u.Host, u.Scheme+"://"+u.Host
		cl.dial = dialer.DialContext
	} else {
		cl.base, cl.where = "http://localhost", appliance.SocketPath(c.data)
		cl.start = "edgepost serve"
		if c.data != appliance.DefaultData {
			cl.start += " -data " + shellWord(c.data)
		}
		cl.dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialControl(ctx, dialer, c.data) }
	}
	cl.http = &http.Client{
		Transport:     &http.Transport{DialContext: cl.dial, TLSClientConfig: cl.tls, DisableCompression: true, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return cl, nil
}

// dialControl opens the control socket of a data directory: where it belongs, then by a shorter
// path, then where the appliance puts it when the file system has no sockets. The error is the
// first one.
func dialControl(ctx context.Context, d *net.Dialer, dir string) (net.Conn, error) {
	paths := []string{appliance.SocketPath(dir)}
	if abs, err := filepath.Abs(dir); err == nil {
		if wd, err := os.Getwd(); err == nil {
			if rel, err := filepath.Rel(wd, abs); err == nil && len(rel) < len(dir) {
				paths = append(paths, appliance.SocketPath(rel))
			}
		}
	}
	var first error
	for _, path := range append(paths, appliance.FallbackSocketPath(dir)) {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// request is one call of the API.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   io.Reader
	wait   time.Duration // how long the appliance may hold it, beside its usual time
}

// do sends the request and returns the answer's body, or the problem as a [failure].
func (cl *client) do(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout+r.wait,
		&failure{exitTimeout, fmt.Sprintf("%s did not answer within %s", cl.where, appliance.FormatDuration(answerTimeout+r.wait)), ""})
	defer cancel()
	target := cl.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, r.body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if r.header != nil {
		req.Header = r.header
	}
	if cl.auth != "" {
		req.Header.Set("Authorization", cl.auth)
	}
	resp, err := cl.http.Do(req)
	if err != nil {
		return nil, cl.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, cl.unreachable(ctx, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer of %s is larger than %s", cl.where, appliance.FormatSize(maxAnswer))
	}
	if resp.StatusCode/100 != 2 {
		return nil, cl.refusal(resp, body)
	}
	return body, nil
}

// call sends v (nil: no body) as JSON and reads the answer into into (nil: ignored).
func (cl *client) call(ctx context.Context, method, path string, v, into any) ([]byte, error) {
	r := request{method: method, path: path}
	if v != nil {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		r.body, r.header = bytes.NewReader(b), http.Header{"Content-Type": {"application/json"}}
	}
	body, err := cl.do(ctx, r)
	if err != nil || into == nil {
		return body, err
	}
	return body, cl.decode(body, into)
}

func (cl *client) decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer of %s (is it an edgepost of this version?): %w", cl.where, err)
	}
	return nil
}

// unreachable words an error of the connection.
func (cl *client) unreachable(ctx context.Context, err error) error {
	if f := (*failure)(nil); errors.As(context.Cause(ctx), &f) {
		return f
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f := cl.mistrusted(err); f != nil {
		return f
	}
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		err = ue.Err
	}
	reason := err
	if oe := (*net.OpError)(nil); errors.As(err, &oe) {
		reason = oe.Err
	}
	if se := (*os.SyscallError)(nil); errors.As(reason, &se) {
		reason = se.Err
	}
	if errors.Is(err, fs.ErrPermission) && cl.start != "" {
		return &failure{exitRefused, fmt.Sprintf("you may not open %s (%v)", cl.where, reason), "run as the user that serve runs as, or give -url and -token"}
	}
	f := &failure{exitUnreachable, fmt.Sprintf("no appliance answers at %s (%v)", cl.where, reason), "check the address, and that this machine may reach it"}
	if cl.start != "" {
		f.next = "is it running? start it with: " + cl.start
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		f.text = fmt.Sprintf("%s hung up in the middle of the answer; what was asked may have been done", cl.where)
		f.next = ""
	}
	return f
}

// problem is an error as the API and the WebSocket write it.
type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// refusal words an answer that is no success.
func (cl *client) refusal(resp *http.Response, body []byte) error {
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return &failure{exitFailed, fmt.Sprintf("%s answered %s; is it an edgepost?", cl.where, resp.Status), ""}
	}
	f := p.failure(cl.auth != "")
	if resp.StatusCode == http.StatusInternalServerError {
		f.code = exitFailed
	}
	return f
}

// failure words the problem with its next step.
func (p problem) failure(withToken bool) *failure {
	f := &failure{exitRefused, fmt.Sprintf("%s (%s)", printable(p.Detail), printable(p.Code)), ""}
	switch p.Code {
	case "internal":
		f.code = exitFailed
	case message.CodeTimeout:
		f.code = exitTimeout
	case message.CodeUnauthorized:
		f.next = "give -token TOKEN, or run this on the gateway with -data: the control socket needs no token"
		if withToken {
			f.next = "check -token and EDGEPOST_TOKEN; a new token: edgepost device add, edgepost key add"
		}
	case message.CodeForbidden:
		if !strings.Contains(p.Detail, "control socket") {
			f.next = "use a token that may, or run this on the gateway with -data: the control socket may everything"
		}
	case message.CodeStorageFull, message.CodeStorageFailed, message.CodeQuota:
		f.next = "see: edgepost status"
	}
	return f
}

// basic is the Authorization of a name with its token (RFC 7617).
func basic(name, token string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+token))
}
