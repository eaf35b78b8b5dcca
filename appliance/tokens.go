package appliance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/jwt"
)

// trustIssuers makes the verifier of the configured issuers; nil when there are none. Those with an
// address begin to fetch their keys; one that cannot be reached is no reason not to start.
func (a *Appliance) trustIssuers() (auth.Verifier, error) {
	var list []jwt.Issuer
	if a.core.issuer != nil {
		list = append(list, a.core.issuer.Trust())
	}
	for _, c := range a.cfg.Issuers {
		c = c.withDefaults()
		i := jwt.Issuer{
			Name: c.Name, URL: c.Issuer, Audience: c.Audience, Algorithms: c.Algorithms, Types: c.Types, Leeway: c.Leeway,
			DeviceClaim: c.DeviceClaim, AdminScope: c.AdminScope,
		}
		var err error
		if c.AskURL != "" {
			i.Ask, err = a.introspection(&c)
		} else {
			i.Keys, err = a.keysOf(&c)
		}
		if err != nil {
			return nil, fmt.Errorf("[[issuer]] %q: %w", c.Name, err)
		}
		list = append(list, i)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return jwt.New(jwt.Options{Issuers: list, Now: a.tokenTime})
}

// tokenTime is the time, or the earliest that it can be while it is not trusted.
func (a *Appliance) tokenTime() (t time.Time, trusted bool) {
	if t = a.clock.Time(); !t.IsZero() {
		return t, true
	}
	return a.clock.Floored(), false
}

// introspection prepares to ask the issuer about its tokens.
func (a *Appliance) introspection(c *IssuerConfig) (*jwt.Introspection, error) {
	if _, err := os.Stat(c.ClientFile); err != nil {
		return nil, fmt.Errorf("client_secret_file: %w", err)
	}
	n, err := jwt.NewIntrospection(jwt.IntrospectionOptions{
		URL: c.AskURL, ClientID: c.ClientID, SecretFile: c.ClientFile, CAFile: c.CAFile, Now: a.clock.Floored, Log: a.o.Log,
	})
	if err != nil {
		return nil, err
	}
	a.background("tokens of "+c.Name, n.Run)
	return n, nil
}

// keysOf opens the one source of keys that the issuer has.
func (a *Appliance) keysOf(c *IssuerConfig) (jwt.KeySource, error) {
	switch {
	case c.KeysFile != "":
		return jwt.NewFile(c.KeysFile)
	case c.SecretFile != "":
		secret, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, err
		}
		set, err := jwt.SecretKey(bytes.TrimRight(secret, "\r\n"))
		return jwt.Fixed{Set: set}, err
	}
	r, err := jwt.NewRemote(jwt.RemoteOptions{
		URL: c.KeysURL, CAFile: c.CAFile, Path: filepath.Join(a.cfg.Data, "jwks", c.Name+".json"), MaxStale: c.MaxStale, Log: a.o.Log,
		Age: a.age, Since: a.sinceAge, Now: a.clock.Floored,
	})
	if err != nil {
		return nil, err
	}
	a.background("keys of "+c.Name, r.Run)
	return r, nil
}

// rechecker is a listener with connections that last. Recheck ends those whose grant holds no more
// and returns how long the next one holds, [auth.Forever] when none of them ends.
type rechecker interface {
	Recheck(left func(*auth.Grant) time.Duration) time.Duration
}

const (
	recheckEvery = 15 * time.Second // a clock that is set may end a token at any moment
	// A connection has its grant some time after its token was accepted, and then nobody tells.
	recheckSoon  = 2 * time.Second
	recheckFresh = time.Minute // above a listener's longest wait between the two
)

// endTokens ends connections with their tokens, until ctx is done. Without tokens it sleeps.
func (k *core) endTokens(ctx context.Context, listeners ...rechecker) {
	next, fresh := auth.Forever, time.Time{}
	for {
		wait := min(next, recheckEvery)
		if time.Since(fresh) < recheckFresh {
			wait = min(wait, recheckSoon)
		}
		var due <-chan time.Time
		if next < auth.Forever || time.Since(fresh) < recheckFresh {
			due = time.After(max(wait, 50*time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return
		case <-k.TokenUsed():
			fresh = time.Now()
		case <-k.recheck:
		case <-due:
		}
		next = auth.Forever
		for _, l := range listeners {
			next = min(next, l.Recheck(k.Left))
		}
	}
}
