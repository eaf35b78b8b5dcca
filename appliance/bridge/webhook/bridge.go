//go:build !omit_webhook

package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/codec"
)

const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 16 << 10 // bytes of an answer that are read; of these a few go into error messages
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "webhook", Schemes: []bridge.Scheme{{Name: "https", Port: "443", Secure: true}, {Name: "http", Port: "80"}},
		Headers: true, Up: true, Open: open,
		Options: []bridge.Option{
			{Name: "secret_file", Help: "file with the secret that signs requests, as Standard Webhooks says; whsec_<base64> or plain text"},
			{Name: "concurrency", Help: "requests at the same time, 1 to 32; above 1 order is not kept; default 1", Default: "1", Most: 32},
		},
	}
}

func open(c *bridge.Config, _ mapping.Here) (bridge.Dialer, error) { return &dialer{c}, nil }

type dialer struct{ c *bridge.Config }

// Dial implements [bridge.Dialer]. It connects once, to say early what is wrong; with a probe it also asks for OPTIONS.
func (d *dialer) Dial(ctx context.Context, e *bridge.Epoch) (bridge.Conn, error) {
	first, err := e.Open(ctx, e.URL.Host)
	if err != nil {
		return nil, err
	}
	_ = first.Close() // only looked
	n := d.c.Number("concurrency")
	c := &conn{c: d.c, e: e, room: make(chan struct{}, n)}
	if c.secret, err = d.secret(); err != nil {
		return nil, err
	}
	open := func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Open(ctx, e.URL.Host) }
	tr := &http.Transport{DialContext: open, DialTLSContext: open, MaxIdleConnsPerHost: n, ResponseHeaderTimeout: requestTimeout, MaxResponseHeaderBytes: 64 << 10}
	e.OnEnd(tr.CloseIdleConnections)
	c.client = &http.Client{Transport: tr, Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if e.Probe {
		return c, c.probe(ctx)
	}
	return c, nil
}

func (d *dialer) secret() ([]byte, error) {
	path := d.c.Options["secret_file"]
	if path == "" {
		return nil, nil
	}
	s, err := bridge.ReadSecret(path)
	if err != nil {
		return nil, bridge.Errorf(bridge.Configuration, "options.secret_file: %w", err)
	}
	if b64, ok := strings.CutPrefix(s, "whsec_"); ok {
		b, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, bridge.Errorf(bridge.Configuration, "options.secret_file: what follows whsec_ in %s is not base64", path)
		}
		return b, nil
	}
	return []byte(s), nil
}

// conn is a client. It implements [bridge.Conn].
type conn struct {
	c      *bridge.Config
	e      *bridge.Epoch
	client *http.Client
	secret []byte
	room   chan struct{}
}

// Send implements [bridge.Conn].
func (c *conn) Send(ctx context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		select {
		case c.room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		post := func(ctx context.Context) error {
			defer func() { <-c.room }()
			o.Answer(c.post(ctx, o))
			return nil
		}
		if cap(c.room) > 1 {
			c.e.Go(post)
		} else if err := post(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) post(ctx context.Context, o *bridge.Outgoing) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.e.URL.String(), bytes.NewReader(o.Body))
	if err != nil {
		return bridge.Errorf(bridge.Configuration, "%w", err)
	}
	if o.ContentType != "" {
		r.Header.Set("Content-Type", o.ContentType)
	}
	for _, h := range o.Headers {
		if o.Event {
			r.Header.Set("Ce-"+h.Key, codec.EscapeHeader(h.Value))
		}
	}
	if c.secret != nil {
		sign(r.Header, c.secret, o.ID, time.Now(), o.Body)
	}
	return c.do(r)
}

// sign adds the headers of Standard Webhooks.
func sign(h http.Header, secret []byte, id string, now time.Time, body []byte) {
	stamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, id+"."+stamp+".") // a hash never fails
	_, _ = mac.Write(body)
	h.Set("Webhook-Id", codec.EscapeHeader(id))
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func (c *conn) probe(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodOptions, c.e.URL.String(), nil)
	if err != nil {
		return err
	}
	if err = c.do(r); err == nil {
		return nil
	}
	if e := bridge.Classify(err); e.Class == bridge.Temporary || e.Class == bridge.Configuration {
		return e // the other answers are about an empty message
	}
	return nil
}

// do makes the request and says what the answer means.
func (c *conn) do(r *http.Request) error {
	secret, err := c.e.Credential(r.Context())
	switch {
	case err != nil:
		return err
	case c.c.Bearer():
		r.Header.Set("Authorization", "Bearer "+secret)
	case c.c.Username != "":
		r.SetBasicAuth(c.c.Username, secret)
	}
	r.Header.Set("User-Agent", "edgepost")
	a, err := c.client.Do(r)
	if err != nil {
		return bridge.Classify(err)
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(a.Body, maxAnswer)) // for words, and so that the connection can be used again
	return meaning(a, text)
}

func meaning(a *http.Response, text []byte) error {
	if a.Request.Method == http.MethodOptions && a.StatusCode == http.StatusMethodNotAllowed {
		return nil // the server is there
	}
	say := func(class bridge.Class) error {
		e := bridge.Errorf(class, "the server answered %s: %.200s", a.Status, strings.ToValidUTF8(string(text), "?"))
		e.After = retryAfter(a.Header.Get("Retry-After"), time.Now())
		return e
	}
	switch s := a.StatusCode; {
	case s >= 200 && s < 300:
		return nil
	case s == 429, s == 503 && a.Header.Get("Retry-After") != "":
		return say(bridge.Temporary)
	case s == 408, s == 425, s >= 500:
		return say(bridge.Doubtful)
	case s < 400, s == 401, s == 403, s == 404, s == 405, s == 407, s == 410:
		return say(bridge.Configuration)
	case s == 413, s == 415:
		return say(bridge.Rejected)
	default:
		return say(bridge.Refused)
	}
}

// retryAfter reads the header: seconds or a date (RFC 9110 §10.2.3); 0 when it is neither.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
