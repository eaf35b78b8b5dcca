package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/cert"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

const epoch = message.Epoch("k3f9w2xq")

func mid(seq uint64) message.ID { return message.ID{Epoch: epoch, Seq: seq} }

// fakeCore answers every call with something plausible, or with err, and remembers what it was asked.
type fakeCore struct {
	err     error       // of every call
	grant   *auth.Grant // nil: administrator
	authErr error
	health  error
	ended   error // of [fakeCore.Holds]
	newborn bool  // nobody has set the gateway up
	row     *registry.RowError
	list    []registry.Enrolment

	edit     courier.Edit
	sessions []string // that Holds was asked about

	mu       sync.Mutex
	calls    []string // "Method args"
	messages []*message.Message
	query    courier.Query
	acks     courier.Acks
	spec     courier.NamedSpec

	stored  message.StoredAs
	page    courier.Page
	leased  []courier.Delivery
	acked   courier.AckResult
	created bool
	await   func(ctx context.Context) ([]message.Receipt, error)
	dead    []message.DeadLetter
	trc     *message.Trace
}

func (f *fakeCore) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fakeCore) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) == 0 {
		return ""
	}
	return f.calls[len(f.calls)-1]
}

func (f *fakeCore) Authenticate(ctx context.Context, _ auth.Credentials) (*auth.Grant, error) {
	if f.authErr != nil {
		return nil, f.authErr
	}
	if g, ok := auth.GrantFrom(ctx); ok {
		return g, nil
	}
	if f.grant != nil {
		return f.grant, nil
	}
	return auth.NewGrant(auth.Owner, "", true, message.Rules{}), nil
}

func (f *fakeCore) Current(principal string) (*auth.Grant, bool) {
	if principal != "device/lamp1" {
		return nil, false
	}
	return auth.NewGrant(auth.Device, "lamp1", false, auth.DeviceRules("lamp1", nil, message.Rules{})), true
}

func (f *fakeCore) Publish(_ context.Context, _ *auth.Grant, m *message.Message) (message.StoredAs, error) {
	f.messages = append(f.messages, m)
	return f.stored, f.note("Publish %s", m.Topic)
}

func (f *fakeCore) PublishAll(_ context.Context, _ *auth.Grant, ms []*message.Message) ([]message.StoredAs, error) {
	f.messages = append(f.messages, ms...)
	out := make([]message.StoredAs, len(ms))
	for i := range out {
		out[i] = message.StoredAs{ID: mid(uint64(i + 1)), Seq: uint64(i + 1), Subscriptions: 1}
	}
	return out, f.note("PublishAll %d", len(ms))
}

func (f *fakeCore) Await(ctx context.Context, _ *auth.Grant, id message.ID) ([]message.Receipt, error) {
	if err := f.note("Await %s", id); err != nil || f.await == nil {
		return nil, err
	}
	return f.await(ctx)
}

func (f *fakeCore) Cancel(_ context.Context, _ *auth.Grant, id message.ID) (int, error) {
	return 2, f.note("Cancel %s", id)
}

func (f *fakeCore) History(ctx context.Context, _ *auth.Grant, q courier.Query) (courier.Page, error) {
	f.query = q
	if err := f.note("History %s", q.Filter); err != nil {
		return courier.Page{}, err
	}
	if q.Wait > 0 && len(f.page.Messages) == 0 {
		select {
		case <-ctx.Done():
			return courier.Page{}, ctx.Err()
		case <-time.After(q.Wait):
		}
	}
	return f.page, nil
}

func (f *fakeCore) Trace(_ context.Context, _ *auth.Grant, id message.ID) (*message.Trace, error) {
	return f.trc, f.note("Trace %s", id)
}

func (f *fakeCore) PutSubscription(_ context.Context, _ *auth.Grant, name string, spec courier.NamedSpec) (courier.Info, bool, error) {
	f.spec = spec
	return courier.Info{Name: "key/app/" + name, Filters: spec.Filters, Durable: true}, f.created, f.note("PutSubscription %s", name)
}

func (f *fakeCore) Subscriptions(context.Context, *auth.Grant) ([]courier.Info, error) {
	return []courier.Info{{Name: "key/app/jobs"}}, f.note("Subscriptions")
}

func (f *fakeCore) Subscription(_ context.Context, _ *auth.Grant, name string) (courier.Info, error) {
	return courier.Info{Name: "key/app/" + name, Depth: 3, Oldest: mid(7), OldestAge: 90 * time.Second, TTL: time.Hour}, f.note("Subscription %s", name)
}

func (f *fakeCore) DeleteSubscription(_ context.Context, _ *auth.Grant, name string) error {
	return f.note("DeleteSubscription %s", name)
}

func (f *fakeCore) Rewind(_ context.Context, _ *auth.Grant, name string, after message.ID) (bool, error) {
	return true, f.note("Rewind %s %s", name, after)
}

func (f *fakeCore) Fetch(_ context.Context, _ *auth.Grant, ref courier.Ref, most int, wait time.Duration) ([]courier.Delivery, error) {
	return f.leased, f.note("Fetch %+v %d %v", ref, most, wait)
}

func (f *fakeCore) Acknowledge(_ context.Context, _ *auth.Grant, ref courier.Ref, a courier.Acks) (courier.AckResult, error) {
	f.acks = a
	return f.acked, f.note("Acknowledge %+v", ref)
}

func (f *fakeCore) Device(_ context.Context, _ *auth.Grant, id string) (registry.Device, courier.Info, error) {
	return registry.Device{ID: id}, courier.Info{Name: "device/" + id, Connected: true}, f.note("Device %s", id)
}

func (f *fakeCore) AddDevice(_ context.Context, _ *auth.Grant, d registry.Device) (string, error) {
	return "ep_new", f.note("AddDevice %s %s %v %v", d.ID, d.Label, d.Groups, d.Rules.Publish)
}

func (f *fakeCore) UpdateDevice(_ context.Context, _ *auth.Grant, d registry.Device) error {
	return f.note("UpdateDevice %s %s", d.ID, d.Label)
}

func (f *fakeCore) RemoveDevice(_ context.Context, _ *auth.Grant, id string) error {
	return f.note("RemoveDevice %s", id)
}

func (f *fakeCore) Groups(context.Context, *auth.Grant) ([]registry.Group, error) {
	return []registry.Group{{Name: "hall"}}, f.note("Groups")
}

func (f *fakeCore) Group(_ context.Context, _ *auth.Grant, name string) (registry.Group, error) {
	return registry.Group{Name: name}, f.note("Group %s", name)
}

func (f *fakeCore) AddGroup(_ context.Context, _ *auth.Grant, name, label string) error {
	return f.note("AddGroup %s %s", name, label)
}

func (f *fakeCore) RemoveGroup(_ context.Context, _ *auth.Grant, name string) error {
	return f.note("RemoveGroup %s", name)
}

func (f *fakeCore) Join(_ context.Context, _ *auth.Grant, group, device string) error {
	return f.note("Join %s %s", group, device)
}

func (f *fakeCore) Leave(_ context.Context, _ *auth.Grant, group, device string) error {
	return f.note("Leave %s %s", group, device)
}

func (f *fakeCore) Keys(context.Context, *auth.Grant) ([]registry.Key, error) {
	return nil, f.note("Keys")
}

func (f *fakeCore) Key(_ context.Context, _ *auth.Grant, name string) (registry.Key, error) {
	return registry.Key{Name: name, Admin: true}, f.note("Key %s", name)
}

func (f *fakeCore) AddKey(_ context.Context, _ *auth.Grant, k registry.Key) (string, error) {
	return "ep_key", f.note("AddKey %s %v %v", k.Name, k.Admin, k.Rules.Subscribe)
}

func (f *fakeCore) RemoveKey(_ context.Context, _ *auth.Grant, name string) error {
	return f.note("RemoveKey %s", name)
}

func (f *fakeCore) RotateDevice(_ context.Context, _ *auth.Grant, id string, grace time.Duration) (string, error) {
	return "ep_rotated", f.note("RotateDevice %s %v", id, grace)
}

func (f *fakeCore) ServedCertificate() (cert.Served, error) {
	return cert.Served{Source: "self-signed", Fingerprint: "sha256/x"}, f.note("ServedCertificate")
}

func (f *fakeCore) Certificates(_ context.Context, _ *auth.Grant, device string) ([]cert.Issued, error) {
	return []cert.Issued{{Device: "lamp1", Serial: "4a"}}, f.note("Certificates %s", device)
}

func (f *fakeCore) IssueCertificate(_ context.Context, _ *auth.Grant, device string, csr []byte, days int) ([]byte, cert.Issued, error) {
	return []byte("PEM"), cert.Issued{Device: device, Serial: "4a"}, f.note("IssueCertificate %s %s %d", device, csr, days)
}

func (f *fakeCore) RevokeCertificates(_ context.Context, _ *auth.Grant, device, serial string) (int, error) {
	return 2, f.note("RevokeCertificates %s %s", device, serial)
}

func (f *fakeCore) Authority(_ context.Context, _ *auth.Grant, renew bool) ([]byte, error) {
	return []byte("PEM"), f.note("Authority %v", renew)
}

func (f *fakeCore) NewTicket(*auth.Grant) (string, time.Duration) {
	_ = f.note("NewTicket")
	return "tick", 30 * time.Second
}

func (f *fakeCore) DeadLetters(_ context.Context, _ *auth.Grant, after uint64, limit int) ([]message.DeadLetter, error) {
	return f.dead, f.note("DeadLetters %d %d", after, limit)
}

func (f *fakeCore) DeadLetter(_ context.Context, _ *auth.Grant, entry uint64) (message.DeadLetter, error) {
	return message.DeadLetter{Entry: entry, Subscription: "device/lamp1", Reason: "rejected", Attempts: 1}, f.note("DeadLetter %d", entry)
}

func (f *fakeCore) Requeue(_ context.Context, _ *auth.Grant, entry uint64) (message.StoredAs, error) {
	return f.stored, f.note("Requeue %d", entry)
}

func (f *fakeCore) Status(_ context.Context, g *auth.Grant) (courier.Status, error) {
	if !g.Admin {
		return courier.Status{}, message.Problemf(message.CodeForbidden, "administrators only")
	}
	return courier.Status{Gateway: "ep-1", Epoch: epoch, Version: "v1", Uptime: 90 * time.Second, Storage: "ok", Published: 5, Connected: 2, Anonymous: true}, f.note("Status")
}

func (f *fakeCore) WriteMetrics(w io.Writer) {
	_, _ = io.WriteString(w, "edgepost_published_total 5\n")
}

func (f *fakeCore) Health() error { return f.health }

func newFake() *fakeCore {
	m := message.New("a/b", []byte(`{"on":true}`))
	m.ContentType, m.ID, m.Seq, m.From = "application/json", mid(41), 41, "app"
	return &fakeCore{
		stored: message.StoredAs{ID: mid(42), Seq: 42, Subscriptions: 3},
		page:   courier.Page{Messages: []*message.Message{m}, Next: mid(41)},
		leased: []courier.Delivery{{Item: courier.NewItem(m), Seq: 41, Attempt: 2, ExpiresIn: 1500 * time.Millisecond}},
		acked:  courier.AckResult{Settled: 1},
		trc: &message.Trace{Message: m, Places: []message.Receipt{
			{ID: mid(41), Subscription: "device/lamp1", State: message.Waiting, Reason: "offline since 09:12", Attempt: 1, At: time.Unix(1_800_000_000, 0)},
		}},
		dead: []message.DeadLetter{{Entry: 3, Message: m, Subscription: "device/lamp1", Reason: "too many attempts", Attempts: 8, At: time.Unix(1_800_000_000, 0)}},
	}
}

// harness is one handler over a fake core.
type harness struct {
	*fakeCore
	h   http.Handler
	log *bytes.Buffer
}

// mounted are the calls of openapi.yaml that others serve.
func mounted(h http.Handler) []Mount {
	var list []Mount
	for _, pattern := range []string{"/v1/ws", "/v1/stream", "/", "/assets/{file}", "/oauth2/jwks", "/.well-known/oauth-authorization-server"} {
		list = append(list, Mount{Pattern: pattern, Handler: h})
	}
	for _, name := range []string{"token", "device_authorization", "revoke", "introspect"} {
		list = append(list, Mount{Method: http.MethodPost, Pattern: "/oauth2/" + name, Handler: h})
	}
	return list
}

func start(t *testing.T, change ...func(*Options)) *harness {
	t.Helper()
	s := &harness{fakeCore: newFake(), log: new(bytes.Buffer)}
	o := Options{
		Core: s.fakeCore, Version: "v1.2", Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Gateway: func() string { return "ep-test" },
		Now:     func() (time.Time, bool) { return time.Unix(1_800_000_000, 0), true },
		Mounts:  mounted(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })),
	}
	for _, f := range change {
		f(&o)
	}
	s.h = New(o)
	return s
}

// send makes a request; header lines are "Name: value".
func (s *harness) send(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w
}

// problem checks that the answer is a problem with the code and its status, and returns it.
func problem(t *testing.T, w *httptest.ResponseRecorder, code string) problemJSON {
	t.Helper()
	var p problemJSON
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("status %d, not a problem: %q", w.Code, w.Body)
	}
	if p.Code != code || p.Status != w.Code || w.Code != statusOf(code) || p.Detail == "" || p.Title != http.StatusText(w.Code) || p.Type != "about:blank" {
		t.Errorf("status %d, problem %+v, want code %s", w.Code, p, code)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	return p
}
