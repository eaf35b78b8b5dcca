package jwt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"edgepost/appliance/guard/oauthclient"
)

// Times and bounds of an [Introspection].
const (
	askAgain    = 30 * time.Second // an answer is asked for again, while who uses it goes on
	believe     = time.Minute      // and not believed any longer: what cannot be asked about is refused
	askAtMost   = 100 * time.Millisecond
	askBurst    = 50 // strangers with made-up tokens must not have us attack the issuer
	askers      = 4
	pause       = time.Second
	maxAnswers  = 1024 // remembered, about 2 KiB each
	leastOpaque = 16   // bytes of a token that is worth a question
)

// IntrospectionOptions configure an [Introspection]. All but CAFile, Now and Log are required.
type IntrospectionOptions struct {
	URL        string // of the issuer's introspection endpoint; https, or http to a loopback address
	ClientID   string // under which the gateway is known there
	SecretFile string // with its secret, read at every question
	CAFile     string // PEM file of the authorities that may vouch for the server; "": the system's
	Now        func() time.Time
	Log        *slog.Logger
}

// Introspection asks an issuer about its tokens (RFC 7662), opaque ones too. An answer, good or bad, is believed for a minute at most; without
// one a token is refused. It is safe for concurrent use. [Introspection.Run] keeps the answers fresh that are in use.
//
// Invariant: an answer belongs to the SHA-256 of the whole token, and to this issuer.
type Introspection struct {
	o     IntrospectionOptions
	http  *http.Client
	stale chan *answer // to be asked about again

	mu      sync.Mutex
	answers map[[sha256.Size]byte]*answer
	full    time.Time // when the whole burst may be asked again
	failing bool      // the last question had no answer; logged once
	down    time.Time // after a question without an answer nobody is asked until then
}

var errSilent = errors.New("its issuer cannot be asked about it")

// answer is what the issuer said of one token. Introspection.mu guards it.
type answer struct {
	from  *Introspection
	token string

	id     *Identity // nil: it is not active, or not for us
	why    error     // with id nil
	known  bool      // there was an answer
	asked  time.Time // monotonic; of the question that the answer is to
	queued bool
	busy   chan struct{} // closed when the question under way is over
}

// NewIntrospection checks the options; it asks nobody yet.
func NewIntrospection(o IntrospectionOptions) (*Introspection, error) {
	if err := oauthclient.CheckURL(o.URL); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := oauthclient.NewHTTP(o.CAFile, o.Now)
	if err != nil {
		return nil, err
	}
	return &Introspection{o: o, http: c, stale: make(chan *answer, maxAnswers), answers: make(map[[sha256.Size]byte]*answer)}, nil
}

// verify says what the issuer says of a token, from memory if that is young enough. read turns the issuer's claims into an identity.
func (n *Introspection) verify(ctx context.Context, token string, read func(claims) (*Identity, error)) (*Identity, error) {
	hash := sha256.Sum256([]byte(token))
	for {
		n.mu.Lock()
		a := n.answers[hash]
		switch {
		case a != nil && a.known && time.Since(a.asked) < believe:
			defer n.mu.Unlock()
			if a.id != nil {
				n.renewLocked(a)
			}
			return a.id, a.why
		case a == nil:
			a = n.roomLocked(hash, token)
		}
		if busy := a.busy; busy != nil {
			n.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return nil, errors.New("its issuer has not answered yet")
			}
		}
		if time.Now().Before(n.down) {
			defer n.mu.Unlock()
			return nil, errSilent
		}
		if !n.mayAskLocked() {
			defer n.mu.Unlock()
			return nil, errors.New("its issuer is asked too often; try again in a few seconds")
		}
		a.busy = make(chan struct{})
		n.mu.Unlock()
		if err := n.ask(ctx, a, read); err != nil {
			return nil, err
		}
	}
}

// roomLocked makes an answer that is still to be asked for. Any old one goes: a miss costs a question.
func (n *Introspection) roomLocked(hash [sha256.Size]byte, token string) *answer {
	for h, a := range n.answers {
		if len(n.answers) < maxAnswers {
			break
		}
		if a.busy == nil {
			delete(n.answers, h)
		}
	}
	a := &answer{from: n, token: token}
	n.answers[hash] = a
	return a
}

// mayAskLocked counts a question, if it may be asked.
func (n *Introspection) mayAskLocked() bool {
	now := time.Now()
	full := n.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(askAtMost)
	if full.Sub(now) > askBurst*askAtMost {
		return false
	}
	n.full = full
	return true
}

// ask asks the issuer and takes over the answer. The error says that there was none.
func (n *Introspection) ask(ctx context.Context, a *answer, read func(claims) (*Identity, error)) error {
	asked := time.Now()
	// A client that goes away must not end a question for which others wait.
	c, err := n.question(context.WithoutCancel(ctx), a.token)
	n.mu.Lock()
	defer n.mu.Unlock()
	close(a.busy)
	a.busy = nil
	if err != nil {
		if !n.failing {
			n.o.Log.Warn("an issuer does not answer what its tokens say; they are refused", "url", n.o.URL, "error", err)
		}
		n.failing, n.down = true, time.Now().Add(pause)
		return errSilent
	}
	n.failing, a.known, a.asked = false, true, asked
	id, why := (*Identity)(nil), error(errors.New("its issuer says that it does not hold"))
	if c != nil {
		id, why = read(c)
	}
	switch {
	case id == nil:
		a.id, a.why = nil, why
	case a.id == nil || !a.id.same(id): // else the old one stays: sessions go on with it
		id.answer = a
		a.id, a.why = id, nil
	}
	return nil
}

// same reports whether another answer about the token allows the same.
func (id *Identity) same(other *Identity) bool {
	acl := func(a *ACL) (list []string) {
		if a == nil {
			return nil
		}
		for i := range a.rules {
			list = append(list, a.rules[i].text)
		}
		return list
	}
	return id.Subject == other.Subject && id.StandsFor == other.StandsFor && id.Client == other.Client && id.Admin == other.Admin &&
		id.Bound == other.Bound && id.Expires.Equal(other.Expires) && (id.ACL == nil) == (other.ACL == nil) && slices.Equal(acl(id.ACL), acl(other.ACL))
}

// question asks about one token; nil claims: it is not active.
func (n *Introspection) question(ctx context.Context, token string) (claims, error) {
	secret, err := os.ReadFile(n.o.SecretFile)
	if err != nil {
		return nil, err
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := oauthclient.Form(ctx, n.o.URL, form, n.o.ClientID, string(bytes.TrimRight(secret, "\r\n")), false)
	if err != nil {
		return nil, err
	}
	res, err := n.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := oauthclient.ReadAnswer(res)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s, not 200 OK", res.Status)
	}
	return parseAnswer(body)
}

// parseAnswer reads RFC 7662 §2.2; nil claims: the token is not active.
func parseAnswer(body []byte) (claims, error) {
	c, err := parseClaims(body)
	if err != nil {
		return nil, errors.New("the answer is not one JSON object without duplicates")
	}
	var active *bool
	if json.Unmarshal(c["active"], &active) != nil || active == nil {
		return nil, errors.New("the answer does not say whether the token is active")
	}
	if !*active {
		return nil, nil //nolint:nilnil // as documented
	}
	return c, nil
}

// left is how long the answer is believed; 0: the token is known not to hold any more, or nobody could be asked.
func (a *answer) left(id *Identity) time.Duration {
	n := a.from
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.id != id {
		return 0
	}
	n.renewLocked(a)
	return max(believe-time.Since(a.asked), 0)
}

// revoked reports whether a later answer ended the identity.
func (a *answer) revoked(id *Identity) bool {
	a.from.mu.Lock()
	defer a.from.mu.Unlock()
	return a.id != id
}

// renewLocked has the issuer asked again while the answer is still believed.
func (n *Introspection) renewLocked(a *answer) {
	if a.queued || a.busy != nil || time.Since(a.asked) < askAgain {
		return
	}
	select {
	case n.stale <- a:
		a.queued = true
	default: // so many are due that it is asked when the answer has become too old
	}
}

// Run asks again about tokens that are in use, until ctx is done.
func (n *Introspection) Run(ctx context.Context) {
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case a := <-n.stale:
					n.renew(ctx, a)
				}
			}
		})
	}
	all.Wait()
}

func (n *Introspection) renew(ctx context.Context, a *answer) {
	n.mu.Lock()
	a.queued = false
	id := a.id
	if id == nil || a.busy != nil {
		n.mu.Unlock()
		return
	}
	a.busy = make(chan struct{})
	n.mu.Unlock()
	_ = n.ask(ctx, a, id.from.answered) // a failure is logged; the answer becomes too old
}

// answered turns an issuer's answer into an identity (RFC 7662 §2.2). What a signed token must have, an answer must, but exp: it is asked for again
// anyway.
func (i *issuer) answered(c claims) (*Identity, error) {
	iss, err := c.text("iss")
	if err != nil {
		return nil, err
	}
	kind, err := c.text("token_type")
	switch {
	case err != nil:
		return nil, err
	case iss != "" && iss != i.URL:
		return nil, errors.New("its iss is another issuer's")
	case kind != "" && !strings.EqualFold(kind, "Bearer"):
		return nil, errors.New("it is not a Bearer token, and another proof is not understood")
	}
	if _, ends := c["exp"]; !ends {
		c["exp"] = json.RawMessage(strconv.FormatInt(maxDate, 10))
	}
	return i.identity(c)
}

// Opaque reports whether an issuer is asked about tokens such as this one, which is no JSON Web Token.
func (v *Verifier) Opaque(token string) bool {
	if len(token) < leastOpaque || len(token) > MaxToken || LooksLike(token) || strings.HasPrefix(token, ownToken) {
		return false
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return slices.ContainsFunc(v.issuers, func(i *issuer) bool { return i.Ask != nil })
}

// asked is what one issuer says of a token.
func (v *Verifier) asked(ctx context.Context, is *issuer, token string) (*Identity, error) {
	id, err := is.Ask.verify(ctx, token, is.answered)
	if err != nil {
		return nil, err
	}
	if err := v.holds(id); err != nil {
		return nil, err
	}
	return id, nil
}

// ownToken begins the tokens of our own register; nobody else is asked about them.
const ownToken = "ep_"

// opaque asks the issuers in their order about a token that does not say whose it is.
func (v *Verifier) opaque(ctx context.Context, token string) (*Identity, error) {
	var failed error
	for _, is := range v.issuers {
		if is.Ask == nil {
			continue
		}
		id, err := v.asked(ctx, is, token)
		if err == nil {
			return id, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, failed
}
