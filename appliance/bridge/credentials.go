package bridge

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/guard/oauthclient"
)

// Token is section [bridge.token]: an authorization server that gives access tokens to this bridge (OAuth 2,
// client_credentials), which it shows in place of a password.
type Token struct {
	URL        string `key:"url"` // of the token endpoint: https, or http to a loopback address
	ClientID   string `key:"client_id"`
	SecretFile string `key:"client_secret_file"`
	Scope      string `key:"scope"`    // separated by spaces; default: the server's
	Audience   string `key:"audience"` // for servers that want to be told; default: none
	CAFile     string `key:"ca_file"`  // PEM; default: the bridge's
}

// Bearer reports whether what is shown to the upstream is a token, not a password.
func (c *Config) Bearer() bool { return c.TokenFile != "" || c.Token.URL != "" }

func (c *Config) checkToken(mistake Mistake) {
	t := &c.Token
	if *t == (Token{}) {
		return
	}
	if err := oauthclient.CheckURL(t.URL); err != nil {
		mistake("token.url", "%s", err)
	}
	if t.ClientID == "" || t.SecretFile == "" {
		mistake("token.client_id", "client_id and client_secret_file are needed")
	}
	if c.PasswordFile != "" || c.TokenFile != "" {
		mistake("token.url", "there is one of password_file, token_file and [bridge.token], not several")
	}
}

// credentials are what a bridge shows to its upstream, over all its connections. Safe for concurrent use.
type credentials struct {
	c *Config

	mu     sync.Mutex
	client *oauthclient.Client // nil: none was needed yet, or its files are not there
	shown  string              // the token that get returned last
}

// get returns the password or token that holds now: a file's is read anew, an authorization server is asked when the one
// at hand ends soon.
func (s *credentials) get(ctx context.Context) (string, error) {
	if s.c.Token.URL == "" {
		return s.c.Secret()
	}
	client, err := s.server()
	if err != nil {
		return "", Errorf(Configuration, "[bridge.token]: %w", err)
	}
	token, _, err := client.Token(ctx)
	if refused, ok := errors.AsType[*oauthclient.Error](err); ok && refused.Status < 500 && refused.Status != 429 {
		return "", Errorf(Configuration, "%w; look at [bridge.token], and whether the server knows this client", err)
	}
	if err != nil {
		return "", Classify(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = token
	return token, nil
}

func (s *credentials) server() (*oauthclient.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	t := &s.c.Token
	o := oauthclient.Options{URL: t.URL, ClientID: t.ClientID, SecretFile: t.SecretFile, Scope: strings.Fields(t.Scope), CAFile: t.CAFile}
	or(&o.CAFile, s.c.CAFile)
	if t.Audience != "" {
		o.Extra = map[string]string{"audience": t.Audience}
	}
	var err error
	s.client, err = oauthclient.New(o)
	return s.client, err
}

// forget has the next connection show another token: the upstream did not take this one.
func (s *credentials) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Forget(s.shown)
	}
}

// renewal is how often it is looked whether there is a newer token: often enough for those that last a minute.
const renewal = 5 * time.Second

// OnRenewal has fn called with each newer token while the epoch lasts, before the one that was shown ends: for protocols
// that take one on a standing connection. Its error ends the epoch. Without it a connection lasts as long as the upstream
// lets it, and the next one shows the newer token.
func (e *Epoch) OnRenewal(fn func(token string) error) {
	if e.c.Token.URL == "" {
		return
	}
	e.Go(func(ctx context.Context) error {
		shown := e.Secret
		tick := time.NewTicker(renewal)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
			token, err := e.credentials.get(ctx)
			if err != nil || token == shown {
				continue // the one that was shown may still hold
			}
			if err := fn(token); err != nil {
				return err
			}
			shown = token
		}
	})
}

// Credential returns the password or token that holds now: for protocols that show it more than once over one connection.
func (e *Epoch) Credential(ctx context.Context) (string, error) { return e.credentials.get(ctx) }
