package httpapi

import (
	"context"
	"io"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/cert"
	"edgepost/appliance/guard/door"
	"edgepost/appliance/guard/oauth"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
	"edgepost/appliance/registry/profile"
	"edgepost/appliance/system/job"
	"edgepost/appliance/system/pulse"
)

// Core is what the interface translates to. Each call checks the grant itself. ctx cancels waits,
// never what was stored. Errors are a [message.Problem] wherever the client can act.
type Core interface {
	Authenticator
	Publisher
	Reader
	Subscriptions
	Leases
	Devices
	Inboxes
	Groups
	Members
	Keys
	Tokens
	Certificates
	Seals
	DeadLetters
	Jobs
	Operation
	Monitor
	Live
	Setup
	Sessions
	Users
	Enrolment
	Claims
	Door
	Auditor
	Bridges
	AccessTokens
}

// AccessTokens is what administrators decide about the gateway's own issuer, see package oauthapi.
type AccessTokens interface {
	Issuer() string
	TokenKeys(ctx context.Context, g *auth.Grant) ([]oauth.Key, error)
	RotateTokenKeys(ctx context.Context, g *auth.Grant, end bool) error
	RevokeTokens(ctx context.Context, g *auth.Grant, principal string) error
	// DeviceRequest is what waits with a user code; principal is who is registered under its client's name.
	DeviceRequest(ctx context.Context, g *auth.Grant, code string) (req oauth.Request, principal string, err error)
	// ApproveDevice grants it, with keep together with a secret of the device's own.
	ApproveDevice(ctx context.Context, g *auth.Grant, code string, keep bool) (client string, err error)
	RefuseDevice(ctx context.Context, g *auth.Grant, code string) error
}

// Bridges forward to upstreams, for administrators. Changes are durable on return.
type Bridges interface {
	Bridges(ctx context.Context, g *auth.Grant) ([]BridgeView, error)
	Bridge(ctx context.Context, g *auth.Grant, name string) (BridgeView, error)
	// PutBridge takes the keys of [[bridge]]; with merge they change what is there (RFC 7396).
	PutBridge(ctx context.Context, g *auth.Grant, name string, config map[string]any, merge bool) (v BridgeView, created bool, err error)
	RemoveBridge(ctx context.Context, g *auth.Grant, name string) error
	OrderBridge(ctx context.Context, g *auth.Grant, name string, o BridgeOrder) (BridgeResult, error)
}

// Setup makes the first administrator.
type Setup interface {
	IsSetUp() bool
	NewSetupCode(ctx context.Context, g *auth.Grant) (code string, err error)
	// SetUp makes the administrator for who has the code, and opens a session.
	SetUp(ctx context.Context, code, name, password string) (session string, err error)
}

// Sessions are of people who signed in.
type Sessions interface {
	SignIn(ctx context.Context, name, password string) (session string, err error)
	SignOut(ctx context.Context, g *auth.Grant, session string)
	// SessionLeft is how long the session lasts unless it is used.
	SessionLeft(session string) time.Duration
	// SetPassword ends the user's sessions but the one named last.
	SetPassword(ctx context.Context, g *auth.Grant, name, present, password, session string) error
}

// Users is the register of people, for administrators. Changes are durable on return.
type Users interface {
	Users(ctx context.Context, g *auth.Grant) ([]registry.User, error)
	User(ctx context.Context, g *auth.Grant, name string) (registry.User, error)
	AddUser(ctx context.Context, g *auth.Grant, u registry.User, password string) error
	UpdateUser(ctx context.Context, g *auth.Grant, u registry.User) error
	RemoveUser(ctx context.Context, g *auth.Grant, name string) error
}

// Enrolment registers many devices, for administrators.
type Enrolment interface {
	// AddDevices registers all or none; a refused one is a [registry.RowError].
	AddDevices(ctx context.Context, g *auth.Grant, list []registry.Enrolment) (tokens []string, err error)
	Profiles() profile.Set
}

// Claims are codes with which somebody gets a device's token, once.
type Claims interface {
	MakeClaim(ctx context.Context, g *auth.Grant, id string) (code, contents string, err error)
	Claim(ctx context.Context, code string) (id, token string, err error)
}

// Door is where unknown devices wait for approval, for administrators.
type Door interface {
	OpenDoor(ctx context.Context, g *auth.Grant, span time.Duration) error
	CloseDoor(ctx context.Context, g *auth.Grant) error
	AtDoor(ctx context.Context, g *auth.Grant) (waiting []door.Waiting, left time.Duration, err error)
	Approve(ctx context.Context, g *auth.Grant, d registry.Device, fingerprint string) error
	Refuse(ctx context.Context, g *auth.Grant, name, fingerprint string) error
}

// Auditor reads the audit history, for administrators.
type Auditor interface {
	Audit(ctx context.Context, g *auth.Grant, after uint64, limit int) ([][]byte, error)
}

// Authenticator says who is asking.
type Authenticator interface {
	Authenticate(ctx context.Context, c auth.Credentials) (*auth.Grant, error)
	// Current returns what a principal ("device/lamp1") may do now; false when there is none.
	Current(principal string) (*auth.Grant, bool)
}

// Publisher stores messages; a nil error means on stable storage, except for volatile ones.
type Publisher interface {
	Publish(ctx context.Context, g *auth.Grant, m *message.Message) (message.StoredAs, error)
	// PublishAll stores all or none; a refused message is a [courier.BatchError].
	PublishAll(ctx context.Context, g *auth.Grant, ms []*message.Message) ([]message.StoredAs, error)
	// Await returns the states reached when all are final or ctx is done.
	Await(ctx context.Context, g *auth.Grant, id message.ID) ([]message.Receipt, error)
	Cancel(ctx context.Context, g *auth.Grant, id message.ID) (cancelled int, err error)
}

// Reader reads what is kept.
type Reader interface {
	History(ctx context.Context, g *auth.Grant, q courier.Query) (courier.Page, error)
	Trace(ctx context.Context, g *auth.Grant, id message.ID) (*message.Trace, error)
}

// Subscriptions are the durable named ones of the principal.
type Subscriptions interface {
	PutSubscription(ctx context.Context, g *auth.Grant, name string, spec courier.NamedSpec) (info courier.Info, created bool, err error)
	Subscriptions(ctx context.Context, g *auth.Grant) ([]courier.Info, error)
	Subscription(ctx context.Context, g *auth.Grant, name string) (courier.Info, error)
	DeleteSubscription(ctx context.Context, g *auth.Grant, name string) error
	Rewind(ctx context.Context, g *auth.Grant, name string, after message.ID) (gap bool, err error)
}

// Leases are how an inbox or a named subscription is read over HTTP.
type Leases interface {
	Fetch(ctx context.Context, g *auth.Grant, ref courier.Ref, max int, wait time.Duration) ([]courier.Delivery, error)
	Acknowledge(ctx context.Context, g *auth.Grant, ref courier.Ref, a courier.Acks) (courier.AckResult, error)
}

// Devices is the register of devices, for administrators. Changes are durable on return.
type Devices interface {
	Device(ctx context.Context, g *auth.Grant, id string) (registry.Device, courier.Info, error)
	AddDevice(ctx context.Context, g *auth.Grant, d registry.Device) (token string, err error)
	UpdateDevice(ctx context.Context, g *auth.Grant, d registry.Device) error
	RemoveDevice(ctx context.Context, g *auth.Grant, id string) error
}

// Inboxes shows administrators what waits for whom.
type Inboxes interface {
	// Find returns a page of the devices that the query selects, each with how its inbox is, and how many it selects in all.
	Find(ctx context.Context, g *auth.Grant, q registry.Query, state string) (page []registry.Device, inboxes []courier.Standing, total int, err error)
	// Queue lists the first messages that wait for a device, and how many there are.
	Queue(ctx context.Context, g *auth.Grant, device string, limit int) (list []courier.Waiting, depth int64, err error)
	// Timeline lists the newest of what happened to a device, newest first; before: there is older, which was not looked at.
	Timeline(ctx context.Context, g *auth.Grant, device string, limit int) (list []courier.Event, before bool, err error)
	// Move gives one of them another priority, there alone.
	Move(ctx context.Context, g *auth.Grant, device string, id message.ID, priority uint8) error
	// Withdraw ends what is owed to this device of the message.
	Withdraw(ctx context.Context, g *auth.Grant, device string, id message.ID) error
	// Reach lists who would get a message; the error is what its publisher would be told.
	Reach(ctx context.Context, g *auth.Grant, t message.Topic) ([]courier.Audience, error)
}

// Groups is the register of groups, for administrators.
type Groups interface {
	Groups(ctx context.Context, g *auth.Grant) ([]registry.Group, error)
	Group(ctx context.Context, g *auth.Grant, name string) (registry.Group, error)
	AddGroup(ctx context.Context, g *auth.Grant, name, label string) error
	RemoveGroup(ctx context.Context, g *auth.Grant, name string) error
}

// Members changes who is in a group.
type Members interface {
	Join(ctx context.Context, g *auth.Grant, group, device string) error
	Leave(ctx context.Context, g *auth.Grant, group, device string) error
}

// Keys is the register of programs' keys, for administrators.
type Keys interface {
	Keys(ctx context.Context, g *auth.Grant) ([]registry.Key, error)
	Key(ctx context.Context, g *auth.Grant, name string) (registry.Key, error)
	AddKey(ctx context.Context, g *auth.Grant, k registry.Key) (token string, err error)
	RemoveKey(ctx context.Context, g *auth.Grant, name string) error
}

// Tokens gives out secrets, each shown once.
type Tokens interface {
	// RotateDevice gives a device a new token; the old one ends after the grace.
	RotateDevice(ctx context.Context, g *auth.Grant, id string, grace time.Duration) (token string, err error)
	NewTicket(g *auth.Grant) (ticket string, expires time.Duration)
}

// Seals are the keys with which payloads for a device are sealed, for administrators.
type Seals interface {
	// SetSeal changes the form. The zero key keeps the device's or makes one, fresh makes one; made is such a one, as a JSON Web Key.
	SetSeal(ctx context.Context, g *auth.Grant, id string, form seal.Form, key seal.Key, fresh bool) (keyID string, made []byte, err error)
}

// Certificates are what the gateway shows over TLS, and what devices show it. What is issued or revoked is durable on return.
type Certificates interface {
	ServedCertificate() (cert.Served, error)
	Certificates(ctx context.Context, g *auth.Grant, device string) ([]cert.Issued, error)
	IssueCertificate(ctx context.Context, g *auth.Grant, device string, csr []byte, days int) (pem []byte, c cert.Issued, err error)
	RevokeCertificates(ctx context.Context, g *auth.Grant, device, serial string) (n int, err error)
	// Authority returns the authority that signs for devices, PEM, nil before its first certificate; with
	// renew a new one.
	Authority(ctx context.Context, g *auth.Grant, renew bool) (pem []byte, err error)
}

// DeadLetters is what subscriptions gave up, for administrators.
type DeadLetters interface {
	DeadLetters(ctx context.Context, g *auth.Grant, after uint64, limit int) ([]message.DeadLetter, error)
	DeadLetter(ctx context.Context, g *auth.Grant, entry uint64) (message.DeadLetter, error)
	Requeue(ctx context.Context, g *auth.Grant, entry uint64) (message.StoredAs, error)
	// RequeueEdited takes it back as another message.
	RequeueEdited(ctx context.Context, g *auth.Grant, entry uint64, edit courier.Edit) (message.StoredAs, error)
	Discard(ctx context.Context, g *auth.Grant, entry uint64) error
	// RequeueAll begins to take all back that have the reason, "" any, at a rate per second.
	RequeueAll(ctx context.Context, g *auth.Grant, reason string, rate float64) (job.Job, error)
	Causes(g *auth.Grant) ([]message.DeadCause, error)
}

// Jobs are long work that administrators began.
type Jobs interface {
	Jobs(g *auth.Grant) ([]job.Job, error)
	Job(g *auth.Grant, id string) (job.Job, error)
	StopJob(ctx context.Context, g *auth.Grant, id string) (job.Job, error)
}

// Monitor shows how the appliance is.
type Monitor interface {
	Status(ctx context.Context, g *auth.Grant) (courier.Status, error)
	WriteMetrics(w io.Writer)
	// Health is nil while messages are accepted and delivered.
	Health() error
}

// Live shows administrators how the appliance is, second by second.
type Live interface {
	// Watch opens a feed of one tick a second, which are shared. The channel is closed when the principal's connections are ended.
	Watch(g *auth.Grant) (ticks <-chan *pulse.Tick, stop func(), err error)
	// Holds is nil as long as the grant may administer, and the session it came with, if any, lasts. It is no use of the session.
	Holds(g *auth.Grant, session string) error
	// Past is the last hour.
	Past(g *auth.Grant) (pulse.History, error)
}
