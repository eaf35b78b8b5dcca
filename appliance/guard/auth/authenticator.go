package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/message"
)

// Entry is what a [Directory] knows about one device, key or user. It is immutable.
type Entry struct {
	Kind      Kind // Device, Key or User
	Name      string
	TokenHash [sha256.Size]byte // zero of a user, who has no token
	OldHash   [sha256.Size]byte // of the token before, while that is still good; else zero
	Guessable bool              // a person chose the token
	Admin     bool
	Groups    []string      // of a device
	Rules     message.Rules // of a device: beyond the defaults
}

// Directory is where devices and keys are registered; their names share one namespace. All calls
// are safe for concurrent use and answer from memory.
type Directory interface {
	// Lookup returns the device, key or user with the name.
	Lookup(name string) (Entry, bool)
	// LookupToken returns the device or key whose token has the hash.
	LookupToken(hash [sha256.Size]byte) (Entry, bool)
	// Version changes whenever any entry does.
	Version() uint64
}

// Options are what an [Authenticator] needs.
type Options struct {
	Directory Directory
	Anonymous *message.Rules                 // what a client without credentials may do; nil: nothing, it is refused
	Session   func(id string) (string, bool) // the user whose session it is; nil: nobody signs in
	Stranger  func(c Credentials) error      // asked about a name that nobody has; nil, or nil from it: a wrong name as any other
	Roles     []Role                         // what many may beside their own rules
	Tokens    Verifier                       // of JSON Web Tokens; nil: they are refused like any unknown token
	Now       func() time.Time               // nil: time.Now
}

// Authenticator turns credentials into grants. It is safe for concurrent use and does no I/O itself;
// a [Verifier] may ask an issuer for its keys.
//
// Invariant: a cached grant was built from an entry read at or after the cache's version.
type Authenticator struct {
	dir       Directory
	owner     *Grant
	anonymous atomic.Pointer[Grant] // nil: no anonymous access
	changes   atomic.Uint64         // of anonymous
	tickets   *Tickets
	throttle  *throttle
	backoff   *Backoff // of tokens that people chose
	session   func(id string) (string, bool)
	stranger  func(c Credentials) error
	subjects  *subjects // nil: no tokens of issuers are accepted
	roles     []Role

	mu      sync.RWMutex
	version uint64            // of the directory when grants was emptied
	grants  map[string]*Grant // by principal; no more of them than the directory has entries
}

// New makes an Authenticator.
func New(o Options) *Authenticator {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authenticator{
		dir:      o.Directory,
		owner:    NewGrant(Owner, "", true, message.Rules{}),
		tickets:  NewTickets(o.Now),
		throttle: newThrottle(o.Now),
		backoff:  NewBackoff(o.Now),
		session:  o.Session,
		stranger: o.Stranger,
		roles:    o.Roles,
		grants:   make(map[string]*Grant),
	}
	if o.Tokens != nil {
		a.subjects = newSubjects(o.Tokens)
	}
	a.SetAnonymous(o.Anonymous)
	return a
}

// SetAnonymous changes what a client without credentials may do; nil refuses it from now on.
func (a *Authenticator) SetAnonymous(rules *message.Rules) {
	var g *Grant
	if rules != nil {
		g = NewGrant(Anonymous, "", false, *rules)
	}
	a.anonymous.Store(g)
	a.changes.Add(1)
}

// Owner returns the grant of whoever can open the control socket.
func (a *Authenticator) Owner() *Grant { return a.owner }

// Tickets returns the table of one-use tickets.
func (a *Authenticator) Tickets() *Tickets { return a.tickets }

// Authenticate says who presents the credentials. Without any it is the grant in ctx ([WithGrant]),
// else the anonymous principal. The error is a [message.Problem]: [message.CodeUnauthorized], or
// [message.CodeTooMany] when the source failed too often of late, or what Options.Stranger says. A right credential
// is accepted even then: tokens are 190 random bits, so guesses gain nothing from it, and one misconfigured
// device must not lock out its neighbours behind the same address. Tokens that a person chose are the exception:
// those are looked at as slowly as [Backoff] says.
//
// A certificate comes first: its device is who asks. A token or a name beside it may only say the same; another's, or a
// wrong one, is refused.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (*Grant, error) {
	if c.Device != "" {
		return a.certified(ctx, c)
	}
	if c.Empty() {
		if g, ok := GrantFrom(ctx); ok {
			return g, nil
		}
		if g := a.anonymous.Load(); g != nil {
			return g, nil
		}
		return nil, unauthorized("credentials are needed: Authorization: Bearer TOKEN, or Basic with a device id or key name and its token")
	}
	g, err := a.check(ctx, &c)
	if g != nil || err != nil {
		return g, err
	}
	if c.Name == "" && c.Token == "" && c.Ticket == "" { // nobody guesses 256 bits: it was a session once
		return nil, unauthorized("you are signed out; sign in again")
	}
	if wait := a.throttle.failed(c.Remote); wait > 0 {
		return nil, TooSoon(wait)
	}
	if c.Name == "" && c.Token == "" {
		return nil, unauthorized("the ticket is unknown, used or older than %v; POST /v1/tickets gives a new one", TicketTTL)
	}
	return nil, unauthorized("unknown name or wrong token")
}

// TooSoon is the problem of who failed too often and has to wait.
func TooSoon(wait time.Duration) *message.Problem {
	return message.Problemf(message.CodeTooMany, "too many failed sign-ins from this address; try again in %d s",
		int64((wait+time.Second-1)/time.Second))
}

// certified authenticates who showed a device's certificate.
func (a *Authenticator) certified(ctx context.Context, c Credentials) (*Grant, error) {
	g, ok := a.Current(Device.String() + "/" + c.Device)
	if !ok {
		return nil, unauthorized("the certificate is of device %.64q, which is not registered any more", c.Device)
	}
	if c.Token == "" && c.Ticket == "" && (c.Name == "" || c.Name == c.Device) {
		return g, nil
	}
	if c.Token != "" || c.Ticket != "" {
		beside := c
		beside.Device = ""
		same, err := a.Authenticate(ctx, beside)
		if err != nil {
			return nil, err
		}
		if same.Principal() == g.Principal() {
			return same, nil
		}
	}
	return nil, unauthorized("the certificate is of device %.64q, but somebody else's name or token came with it; leave one of them away", c.Device)
}

// check returns the grant of right credentials, nil for wrong ones, and an error where the answer is another one.
func (a *Authenticator) check(ctx context.Context, c *Credentials) (*Grant, error) {
	if c.Name == "" && c.Token == "" {
		return a.checkIssued(c)
	}
	version := a.dir.Version()
	hash := HashToken(c.Token)
	e, known := a.entry(c, hash) // for an unknown name the comparison below still runs, against a hash no token has
	if e.Guessable && c.Name != "" {
		if wait := a.backoff.Begin(c.Remote, c.Name); wait > 0 {
			return nil, TooSoon(wait)
		}
	}
	// No token has the hash zero, which stands for none.
	same := subtle.ConstantTimeCompare(hash[:], e.TokenHash[:])|subtle.ConstantTimeCompare(hash[:], e.OldHash[:]) == 1
	if same && known && c.Token != "" && (!e.Guessable || c.Name != "") { // a short token counts only with its name
		if e.Guessable {
			a.backoff.Succeeded(c.Remote, c.Name)
		}
		return a.grant(&e, version), nil
	}
	return a.checkForeign(ctx, c, known, e.Guessable)
}

// entry finds who the credentials name, or whose token it is when they name nobody.
func (a *Authenticator) entry(c *Credentials, token [sha256.Size]byte) (Entry, bool) {
	if c.Name != "" {
		return a.dir.Lookup(c.Name)
	}
	return a.dir.LookupToken(token)
}

// checkForeign checks what the register does not hold: a token of an issuer, or what a device that wants to join
// presents. known and guessable tell of the name that came with it.
func (a *Authenticator) checkForeign(ctx context.Context, c *Credentials, known, guessable bool) (*Grant, error) {
	switch {
	case a.subjects != nil && jwt.LooksLike(c.Token):
		return a.checkJWT(ctx, c)
	case a.subjects != nil && !guessable && a.subjects.verify.Opaque(c.Token):
		g, err := a.subjectOf(ctx, c)
		if err != nil && !known && c.Name != "" && a.stranger != nil {
			if waits := a.stranger(*c); waits != nil { // it was the password of a device that wants to join
				return nil, waits
			}
		}
		return g, a.failed(err, c)
	case !known && c.Name != "" && a.stranger != nil:
		return nil, a.stranger(*c)
	}
	return nil, nil //nolint:nilnil // wrong credentials
}

// checkIssued checks what we issued to somebody who had proved before who it is; nil when it is nothing.
func (a *Authenticator) checkIssued(c *Credentials) (*Grant, error) {
	principal, ok := "", false
	var g *Grant
	switch {
	case c.Ticket != "":
		if principal, g, ok = a.tickets.Redeem(c.Ticket); g != nil {
			return a.Now(g)
		}
	case a.session != nil:
		principal, ok = a.session(c.Session)
		principal = User.String() + "/" + principal
	}
	if ok {
		g, _ = a.Current(principal)
	}
	return g, nil
}

// Version changes whenever an answer of [Authenticator.Current] may have changed.
func (a *Authenticator) Version() uint64 { return a.dir.Version() + a.changes.Load() }

// Current returns what a principal ([Grant.Principal]) may do now; false when it exists no more.
// It is made for a call per delivery: a read lock and a look-up.
func (a *Authenticator) Current(principal string) (*Grant, bool) {
	switch principal {
	case "owner":
		return a.owner, true
	case "anonymous":
		g := a.anonymous.Load()
		return g, g != nil
	}
	if strings.HasPrefix(principal, subjectPrefix) {
		return a.subjects.newest(principal)
	}
	version := a.dir.Version()
	a.mu.RLock()
	g, ok := a.grants[principal]
	ok = ok && a.version == version
	a.mu.RUnlock()
	if ok {
		return g, true
	}
	kind, name, _ := strings.Cut(principal, "/")
	e, known := a.dir.Lookup(name)
	if !known || e.Kind.String() != kind {
		return nil, false
	}
	return a.grant(&e, version), true
}

// grant returns the cached grant of the entry or makes it. version was read before the entry.
func (a *Authenticator) grant(e *Entry, version uint64) *Grant {
	rules := a.withRoles(e)
	if e.Kind == Device {
		rules = DeviceRules(e.Name, e.Groups, rules)
	}
	g := NewGrant(e.Kind, e.Name, e.Admin && e.Kind != Device, rules)
	principal := g.Principal()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case version > a.version:
		clear(a.grants)
		a.version = version
	case version < a.version: // another goroutine saw a later directory; ours is good for this call only
		return g
	default:
		if cached, ok := a.grants[principal]; ok {
			return cached
		}
	}
	a.grants[principal] = g
	return g
}

// DeviceRules returns everything a device may do: publish below device/<id>/out/, receive what is
// addressed to it and to its groups, and the extra rules of its registration, in which "${device}"
// stands for its id. (Its receipts are not a rule: see [Grant.MayReceive].)
func DeviceRules(id string, groups []string, extra message.Rules) message.Rules {
	subscribe := make([]message.Filter, 0, 1+len(groups)+len(extra.Subscribe))
	subscribe = append(subscribe, message.InboxOf(id))
	for _, g := range groups {
		subscribe = append(subscribe, message.GroupInbox(g))
	}
	return message.Rules{
		Publish:       forDevice(id, []message.Filter{message.OutboxOf(id)}, extra.Publish),
		DenyPublish:   forDevice(id, nil, extra.DenyPublish),
		Subscribe:     forDevice(id, subscribe, extra.Subscribe),
		DenySubscribe: forDevice(id, nil, extra.DenySubscribe),
	}
}

// DevicePlaceholder stands for the device's id in the extra rules of a device.
const DevicePlaceholder = "${device}"

func forDevice(id string, to, extra []message.Filter) []message.Filter {
	for _, f := range extra {
		to = append(to, message.Filter(strings.ReplaceAll(string(f), DevicePlaceholder, id)))
	}
	return to
}
