//go:build !omit_acme

package cert

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
)

// HasACME says that ACME is compiled in.
const HasACME = true

const (
	orderTimeout = 5 * time.Minute
	checkEvery   = time.Minute
)

// pauses are the waits after failed orders. The first one is short because the second attempt takes
// the other kind of challenge; authorities allow five failures an hour.
func pauses() []time.Duration {
	return []time.Duration{5 * time.Second, 15 * time.Minute, time.Hour, 6 * time.Hour, 12 * time.Hour}
}

// acmeOrder gets one certificate for all names by ACME (RFC 8555) and renews it when two thirds of its
// life are over. The gateway answers the challenges http-01 on its HTTP port and tls-alpn-01 (RFC
// 8737) on its HTTPS port; outside they must be ports 80 and 443.
type acmeOrder struct {
	k      *Keeper
	client *acme.Client
	path   string // of the certificate and its key

	mu         sync.RWMutex
	cert       *tls.Certificate            // nil: none yet
	responses  map[string]string           // of http-01, by token
	challenges map[string]*tls.Certificate // of tls-alpn-01, by name
}

func newACME(k *Keeper) (*acmeOrder, error) {
	o := &k.o.ACME
	key, err := loadKey(filepath.Join(k.o.Dir, "acme.key"))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 30 * time.Second, TLSClientConfig: &tls.Config{Time: k.o.Now, MinVersion: tls.VersionTLS12}}
	if o.CAFile != "" {
		roots, err := readFile(o.CAFile)
		if err != nil {
			return nil, &ConfigError{fmt.Errorf("read tls.acme.ca_file: %w", err)}
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots) {
			return nil, &ConfigError{fmt.Errorf("tls.acme.ca_file %s has no certificate in PEM", o.CAFile)}
		}
	}
	a := &acmeOrder{
		k: k, path: filepath.Join(k.o.Dir, "acme.pem"), responses: make(map[string]string), challenges: make(map[string]*tls.Certificate),
		client: &acme.Client{Key: key, DirectoryURL: o.Directory, UserAgent: "edgepost", HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}},
	}
	if c, err := tls.LoadX509KeyPair(a.path, a.path); err == nil && a.serves(c.Leaf) {
		a.cert = &c
	}
	return a, nil
}

// serves reports whether a certificate is for all of the names.
func (a *acmeOrder) serves(c *x509.Certificate) bool {
	for _, name := range a.k.o.ACME.Names {
		if c.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// certificate is what a client that asks for the name is shown; nil: something else.
func (a *acmeOrder) certificate(name string) *tls.Certificate {
	if !slices.Contains(a.k.o.ACME.Names, strings.ToLower(strings.TrimSuffix(name, "."))) {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.cert == nil || a.k.o.Now().After(a.cert.Leaf.NotAfter) {
		return nil
	}
	return a.cert
}

func (a *acmeOrder) challenge(name string) (*tls.Certificate, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if c := a.challenges[name]; c != nil {
		return c, nil
	}
	return nil, errors.New("nobody was asked to prove this name")
}

func (a *acmeOrder) response(token string) (string, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	r, ok := a.responses[token]
	return r, ok
}

// run orders and renews until ctx is done. Without a trusted clock it waits: the authority's own certificate
// could not be judged.
func (a *acmeOrder) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		wait := checkEvery
		switch {
		case !a.due():
		case a.k.o.Trusted != nil && !a.k.o.Trusted():
			wait = 5 * time.Second
		default:
			err := a.order(ctx, failures)
			if err == nil {
				failures = 0
				break
			}
			if ctx.Err() != nil {
				return
			}
			p := pauses()
			wait = p[min(failures, len(p)-1)]
			failures++
			a.k.warn("acme", fmt.Sprintf("no certificate for %s: %v; next attempt in %v", strings.Join(a.k.o.ACME.Names, ", "), err, wait))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// due reports whether a certificate must be ordered now.
func (a *acmeOrder) due() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.cert == nil {
		return true
	}
	c := a.cert.Leaf
	return a.k.o.Now().After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3))
}

// order gets a certificate and keeps it.
func (a *acmeOrder) order(ctx context.Context, attempt int) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	o := &a.k.o.ACME
	account := &acme.Account{}
	if o.Email != "" {
		account.Contact = []string{"mailto:" + o.Email}
	}
	if _, err := a.client.Register(ctx, account, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return fmt.Errorf("register at %s: %w", o.Directory, err)
	}
	order, err := a.client.AuthorizeOrder(ctx, acme.DomainIDs(o.Names...))
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	for _, u := range order.AuthzURLs {
		if err := a.prove(ctx, u, attempt); err != nil {
			return err
		}
	}
	if order, err = a.client.WaitOrder(ctx, order.URI); err != nil {
		return fmt.Errorf("wait for the order: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.Names}, key)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	chain, _, err := a.client.CreateCertFromOrder(ctx, order, csr, true)
	if err != nil {
		return fmt.Errorf("finish the order: %w", err)
	}
	return a.keep(append(encodeKey(key), encodeCerts(chain...)...))
}

// keep takes a certificate into use and writes it.
func (a *acmeOrder) keep(text []byte) error {
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	if !a.serves(c.Leaf) {
		return errors.New("the authority's certificate is for other names")
	}
	a.mu.Lock()
	a.cert = &c
	a.mu.Unlock()
	a.k.o.Log.Info("a certificate was issued by ACME", "names", c.Leaf.DNSNames, "until", c.Leaf.NotAfter)
	err = writeFile(a.path, text) // it serves in any case
	a.k.mu.Lock()
	a.k.noteLocked("acme", err)
	a.k.mu.Unlock()
	return nil
}

// prove answers one challenge: http-01 at first, the other kind at the next attempt.
func (a *acmeOrder) prove(ctx context.Context, url string, attempt int) error {
	z, err := a.client.GetAuthorization(ctx, url)
	if err != nil {
		return fmt.Errorf("read authorization: %w", err)
	}
	if z.Status == acme.StatusValid {
		return nil
	}
	kinds := []string{"http-01", "tls-alpn-01"}
	if attempt%2 == 1 {
		slices.Reverse(kinds)
	}
	for _, kind := range kinds {
		for _, c := range z.Challenges {
			if c.Type == kind {
				return a.answer(ctx, z, c)
			}
		}
	}
	return fmt.Errorf("the authority offers neither http-01 nor tls-alpn-01 for %s", z.Identifier.Value)
}

func (a *acmeOrder) answer(ctx context.Context, z *acme.Authorization, c *acme.Challenge) error {
	name := z.Identifier.Value
	response, err := a.client.HTTP01ChallengeResponse(c.Token)
	if err != nil {
		return fmt.Errorf("answer %s: %w", c.Type, err)
	}
	cert, err := a.client.TLSALPN01ChallengeCert(c.Token, name)
	if err != nil {
		return fmt.Errorf("answer %s: %w", c.Type, err)
	}
	a.mu.Lock()
	a.responses[c.Token], a.challenges[name] = response, &cert
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.responses, c.Token)
		delete(a.challenges, name)
		a.mu.Unlock()
	}()
	if _, err := a.client.Accept(ctx, c); err != nil {
		return fmt.Errorf("answer %s for %s: %w", c.Type, name, err)
	}
	if _, err := a.client.WaitAuthorization(ctx, z.URI); err != nil {
		return fmt.Errorf("prove %s by %s: %w", name, c.Type, err)
	}
	return nil
}
