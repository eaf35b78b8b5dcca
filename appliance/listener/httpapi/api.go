package httpapi

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

// Defaults of [Options].
const (
	defaultMaxBatch     = 1 << 20
	defaultBodyTimeout  = 30 * time.Second // 256 KiB at 70 kbit/s
	defaultWriteTimeout = 30 * time.Second
)

// Limits that nobody needs to change.
const (
	maxDocument = 256 << 10        // bytes of a JSON request body, beside messages: 1,000 nacks with reasons
	maxWait     = 60 * time.Second // proxies cut a silent request after about that
	maxPage     = 1000
)

// Options are what [New] needs. Core is required; everything else has a default.
type Options struct {
	Core         Core
	Version      string
	Gateway      func() string // its name, for the source of events; nil: "edgepost"
	MaxMessage   int64         // payload bytes of one message; 0: [message.MaxPayload], the most
	MaxBatch     int64         // bytes of a batch of events, unpacked; 0: 1 MiB
	Mounts       []Mount
	Log          *slog.Logger                       // nil: none
	Now          func() (t time.Time, trusted bool) // nil: time.Now, trusted
	BodyTimeout  time.Duration                      // for one request's body; 0: 30 s
	WriteTimeout time.Duration                      // for one write of an answer; 0: 30 s
}

// Mount is a call at a path that another handler serves, credentials included.
type Mount struct {
	Method  string // "": GET
	Pattern string // "/v1/ws"
	Summary string
	Files   bool // HEAD is possible, too
	Handler http.Handler
}

type api struct {
	Options
	core      Core
	resources []resource
	glance    glance
}

// glance is the public status, computed at most once a second whoever asks.
type glance struct {
	mu   sync.Mutex
	at   time.Time
	body []byte
}

// New makes the handler of the whole HTTP interface. It starts no goroutine.
func New(o Options) http.Handler {
	if o.Gateway == nil {
		o.Gateway = func() string { return "edgepost" }
	}
	if o.MaxMessage <= 0 || o.MaxMessage > message.MaxPayload {
		o.MaxMessage = message.MaxPayload
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = defaultMaxBatch
	}
	o.MaxBatch = min(o.MaxBatch, codec.MaxBatchBytes)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = func() (time.Time, bool) { return time.Now(), true }
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = defaultBodyTimeout
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = defaultWriteTimeout
	}
	a := &api{Options: o, core: o.Core}
	a.resources = compile(append(a.routes(), mountRoutes(o.Mounts)...))
	return a
}

func mountRoutes(mounts []Mount) []route {
	var rs []route
	for _, m := range mounts {
		if m.Method == "" {
			m.Method = http.MethodGet
		}
		rs = append(rs, route{method: m.Method, pattern: m.Pattern, mount: m.Handler, leases: !m.Files})
	}
	return rs
}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	// The connection may still carry the deadline of its last answer.
	_ = rc.SetWriteDeadline(time.Time{})
	if r.ContentLength != 0 {
		// Also for a body that nobody reads: net/http reads on to its end before it sends an answer, so
		// a refused stranger could hold the connection by never sending it.
		_ = rc.SetReadDeadline(time.Now().Add(a.BodyTimeout))
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	c := &call{a: a, w: w, r: r}
	if err := a.serve(c); err != nil {
		_ = rc.SetWriteDeadline(time.Now().Add(a.BodyTimeout + a.WriteTimeout)) // the body is read to its end first
		WriteProblem(w, r, a.Log, err)
	}
}

func (a *api) serve(c *call) error {
	path := c.r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	res, ok := find(a.resources, path, c)
	if !ok {
		return message.Problemf(message.CodeNotFound, "there is nothing at %.200q; GET /openapi.yaml lists all calls", path)
	}
	method := c.r.Method
	if method == http.MethodOptions {
		return a.options(c, res)
	}
	rt := res.byMethod(method)
	if rt == nil {
		c.w.Header().Set("Allow", res.allow)
		return message.Problemf(codeMethod, "%.20s is not possible here; use %s", method, res.allow)
	}
	if rt.mount != nil {
		rt.mount.ServeHTTP(c.w, c.r)
		return nil
	}
	if err := c.readQuery(rt); err != nil {
		return err
	}
	if rt.admin {
		c.audited()
	}
	if !rt.open {
		if err := c.authenticate(); err != nil {
			return c.refused(rt, err)
		}
	}
	return rt.serve(c)
}

// refused explains a refusal to who cannot know better: nobody may administer over the network before the gateway is set up.
func (c *call) refused(rt *route, err error) error {
	p := message.ProblemOf(err)
	if rt.admin && p != nil && p.Code == message.CodeUnauthorized && c.r.Header.Get("Authorization") == "" && !c.a.core.IsSetUp() {
		return message.Problemf(message.CodeUnauthorized, "%s. Nobody has set this gateway up: POST /v1/setup with the code on its console, or run edgepost admin passwd on it", p.Detail)
	}
	return err
}

// options answers what is possible at a resource. What browsers ask before a call from another page
// is answered in front of this handler (guard.Web).
func (a *api) options(c *call, res *resource) error {
	c.w.Header().Set("Allow", res.allow)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
