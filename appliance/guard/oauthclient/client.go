package oauthclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	attempts   = 3                      // of one request, within one call
	firstWait  = 500 * time.Millisecond // doubles with each attempt, with full jitter
	leastHold  = time.Second            // after a failure, until the server is asked again; doubles
	mostHold   = time.Minute
	maxMargin  = 30 * time.Second // before its end a token is replaced: what is on its way must not come too late
	unknown    = time.Minute      // how long a token is used whose server does not say when it ends
	mostLife   = 24 * time.Hour   // however long its server says
	maxToken   = 16 << 10
	maxMessage = 200 // bytes of a server's text that go into an error
)

// Options configure a [Client]. URL, ClientID and one of Secret and SecretFile are required.
type Options struct {
	URL        string // of the token endpoint; https, or http to a loopback address
	ClientID   string
	Secret     string
	SecretFile string            // a file with the secret, read at every request: it may change
	InBody     bool              // the secret goes into the body (client_secret_post), not into the header
	Scope      []string          // what is asked for; empty: the server's default
	Extra      map[string]string // further parameters some servers want: audience, resource
	CAFile     string            // PEM file of the authorities that may vouch for the server; "": the system's

	Now func() time.Time // for the server's certificate; nil: time.Now
	Log *slog.Logger     // nil: none
}

// Client gets access tokens by client_credentials. It is safe for concurrent use and starts no goroutine
// but for a request under way.
//
// Invariants: at most one request is under way; token is the newest one that was received.
type Client struct {
	o    Options
	http *http.Client

	mu    sync.Mutex
	token string
	ends  time.Time     // of token
	renew time.Time     // when it is replaced, before its end
	busy  chan struct{} // closed when the request under way is over; nil: none is
	err   error         // of the last request
	held  time.Time     // until when err is answered without asking
	hold  time.Duration // what the next failure waits
}

// Error is a server's refusal (RFC 6749 §5.2).
type Error struct {
	Status      int    // of HTTP
	Code        string // "invalid_client" and the like; "" when the answer says none
	Description string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("the authorization server answers %d", e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Description != "" {
		s += ": " + e.Description
	}
	return s
}

// New checks the options; it asks nobody yet.
func New(o Options) (*Client, error) {
	if err := CheckURL(o.URL); err != nil {
		return nil, err
	}
	if o.ClientID == "" || (o.Secret == "") == (o.SecretFile == "") {
		return nil, errors.New("a client id and either a secret or a file with it are needed")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := NewHTTP(o.CAFile, o.Now)
	if err != nil {
		return nil, err
	}
	return &Client{o: o, http: c, hold: leastHold}, nil
}

// Token returns an access token that holds, and when it ends. It asks the server when there is none, or
// when the one at hand ends soon. The error is an [*Error] when the server refused; ctx ends the wait,
// not the request.
func (c *Client) Token(ctx context.Context) (string, time.Time, error) {
	for {
		c.mu.Lock()
		now := time.Now()
		switch {
		case c.token != "" && now.Before(c.renew), c.token != "" && now.Before(c.ends) && now.Before(c.held):
			defer c.mu.Unlock()
			return c.token, c.ends, nil
		case now.Before(c.held):
			defer c.mu.Unlock()
			return "", time.Time{}, c.err
		}
		if c.busy == nil {
			c.busy = make(chan struct{})
			go c.fetch(context.WithoutCancel(ctx), c.busy)
		}
		busy := c.busy
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return "", time.Time{}, ctx.Err()
		}
	}
}

// Forget has the next call get a new token: an upstream refused this one. Another one that came
// meanwhile stays.
func (c *Client) Forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// fetch gets a token, or remembers why not.
func (c *Client) fetch(ctx context.Context, busy chan struct{}) {
	token, life, err := c.persist(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(busy)
	c.busy = nil
	now := time.Now()
	if err == nil {
		c.token, c.ends, c.renew = token, now.Add(life), now.Add(life-min(maxMargin, life/4))
		c.err, c.held, c.hold = nil, time.Time{}, leastHold
		return
	}
	if c.err == nil {
		c.o.Log.Warn("no access token for an upstream", "server", c.o.URL, "client", c.o.ClientID, "error", err)
	}
	c.err = fmt.Errorf("get an access token from %s: %w", c.o.URL, err)
	c.held = now.Add(c.hold)
	c.hold = min(2*c.hold, mostHold)
}

// persist tries again what may pass.
func (c *Client) persist(ctx context.Context) (token string, life time.Duration, err error) {
	for n := range attempts {
		if n > 0 {
			time.Sleep(rand.N(firstWait << n)) //nolint:gosec // jitter
		}
		if token, life, err = c.ask(ctx); err == nil || !temporary(err) {
			break
		}
	}
	return token, life, err
}

// ask makes one request (RFC 6749 §4.4.2).
func (c *Client) ask(ctx context.Context) (token string, life time.Duration, err error) {
	secret, err := c.secret()
	if err != nil {
		return "", 0, err
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(c.o.Scope) > 0 {
		form.Set("scope", strings.Join(c.o.Scope, " "))
	}
	for k, v := range c.o.Extra {
		form.Set(k, v)
	}
	req, err := Form(ctx, c.o.URL, form, c.o.ClientID, secret, c.o.InBody)
	if err != nil {
		return "", 0, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	body, err := ReadAnswer(res)
	if err != nil {
		return "", 0, err
	}
	if res.StatusCode != http.StatusOK {
		return "", 0, refusal(res.StatusCode, body)
	}
	return parse(body)
}

// Form makes a request with a form in its body and the client's credentials: in the header (RFC 6749 §2.3.1,
// which has both encoded as in a form), or in the body.
func Form(ctx context.Context, address string, form url.Values, id, secret string, inBody bool) (*http.Request, error) {
	if inBody {
		form.Set("client_id", id)
		form.Set("client_secret", secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if !inBody {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return req, nil
}

func (c *Client) secret() (string, error) {
	if c.o.SecretFile == "" {
		return c.o.Secret, nil
	}
	b, err := os.ReadFile(c.o.SecretFile)
	if err == nil && len(bytes.TrimSpace(b)) == 0 {
		err = fmt.Errorf("%s is empty", c.o.SecretFile)
	}
	return string(bytes.TrimRight(b, "\r\n")), err
}

func refusal(status int, body []byte) error {
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(body, &e) // what is no JSON says nothing
	return &Error{Status: status, Code: printable(e.Error), Description: printable(e.Description)}
}

// printable makes a server's text fit for a log.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxMessage)]
}

// parse reads the answer (RFC 6749 §5.1).
func parse(body []byte) (token string, life time.Duration, err error) {
	var t struct {
		Token   string      `json:"access_token"`
		Type    string      `json:"token_type"`
		Expires json.Number `json:"expires_in"` // seconds; some servers write a text
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return "", 0, errors.New("the authorization server's answer is not the JSON of RFC 6749")
	}
	switch {
	case t.Token == "" || len(t.Token) > maxToken || printable(t.Token[:min(len(t.Token), maxMessage)]) != t.Token[:min(len(t.Token), maxMessage)]:
		return "", 0, fmt.Errorf("the authorization server's answer has no access_token of 1 to %d signs", maxToken)
	case !strings.EqualFold(t.Type, "Bearer"):
		return "", 0, fmt.Errorf("the authorization server gives a token of type %.20q; only Bearer is of use here", printable(t.Type))
	case t.Expires == "":
		return t.Token, unknown, nil
	}
	seconds, err := t.Expires.Float64()
	if err != nil || seconds < 1 {
		return "", 0, errors.New("the authorization server gives a token that has ended already (expires_in)")
	}
	return t.Token, time.Duration(min(seconds, mostLife.Seconds()) * float64(time.Second)), nil
}
