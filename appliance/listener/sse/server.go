package sse

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Defaults of [Options].
const (
	defaultHeartbeat    = 25 * time.Second // proxies and NATs forget silent connections after 30 to 60 s
	defaultWriteTimeout = 10 * time.Second
	defaultRetry        = 2 * time.Second
	defaultMaxStreams   = 1000 // 26 MiB of streams
	defaultQueue        = 64
	defaultQueueBytes   = 256 << 10
)

// Core is what a stream needs. Errors are a [message.Problem] wherever the client can act.
type Core interface {
	Authenticate(ctx context.Context, c auth.Credentials) (*auth.Grant, error)
	// Left is how long a grant still holds; 0: not any more.
	Left(g *auth.Grant) time.Duration
	// Subscribe attaches the link to a new subscription that ends with it. gap says that messages
	// between r.After and the first one are no longer kept.
	Subscribe(ctx context.Context, g *auth.Grant, r courier.Request, link courier.Link, o courier.AttachOptions) (a courier.Attachment, gap bool, err error)
}

// Options are what [New] needs. Core and Refuse are required; everything else has a default.
type Options struct {
	Core         Core
	Refuse       func(w http.ResponseWriter, r *http.Request, err error) // answers a refused request as the HTTP interface does
	Log          *slog.Logger                                            // nil: none
	Heartbeat    time.Duration                                           // 0: 25 s
	WriteTimeout time.Duration                                           // for one write; 0: 10 s
	Retry        time.Duration                                           // advice to the client; 0: 2 s
	MaxStreams   int64                                                   // at the same time; 0: 1,000
	Queue        int                                                     // messages that wait for the writer; 0: 64
	QueueBytes   int64                                                   // and their bytes; 0: 256 KiB. One message always fits
}

// Server serves streams. It is safe for concurrent use.
type Server struct {
	o       Options
	open    atomic.Int64
	buffers sync.Pool

	mu      sync.Mutex
	streams map[*stream]*auth.Grant // whose each is
}

// New makes a server. It starts no goroutine: each stream runs on its request's.
func New(o Options) *Server {
	or(&o.Heartbeat, defaultHeartbeat)
	or(&o.WriteTimeout, defaultWriteTimeout)
	or(&o.Retry, defaultRetry)
	or(&o.MaxStreams, defaultMaxStreams)
	or(&o.Queue, defaultQueue)
	or(&o.QueueBytes, defaultQueueBytes)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, buffers: sync.Pool{New: func() any { return new([]byte) }}, streams: make(map[*stream]*auth.Grant)}
}

func or[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Kick ends the principal's streams: it was removed, or its credential ended.
func (s *Server) Kick(principal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, g := range s.streams {
		if g.Principal() == principal {
			t.Lost(courier.Removed)
		}
	}
}

// Recheck ends every stream whose grant holds no more. left says how long a grant holds; 0: not any more. It returns
// [auth.Forever]: a stream watches for the end of its own token.
func (s *Server) Recheck(left func(*auth.Grant) time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, g := range s.streams {
		if left(g) == 0 {
			t.signal()
		}
	}
	return auth.Forever
}

// know has Kick and Recheck find the stream until forget is called.
func (s *Server) know(t *stream, g *auth.Grant) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[t] = g
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, t)
	}
}

// Streams is how many streams are open now.
func (s *Server) Streams() int64 { return s.open.Load() }

// ServeHTTP serves one stream until its client goes away, it is too slow, or the subscription is
// lost.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.open.Add(-1)
	if n := s.open.Add(1); n > s.o.MaxStreams {
		s.o.Refuse(w, r, message.Problemf(message.CodeTooMany, "%d streams are open, the limit; close one, or read GET /v1/messages with wait", n-1))
		return
	}
	req, grant, err := s.admit(r)
	if err != nil {
		s.o.Refuse(w, r, err)
		return
	}
	t := newStream(s.o.Queue, s.o.QueueBytes)
	defer s.know(t, grant)()
	a, gap, err := s.o.Core.Subscribe(r.Context(), grant, req, t, courier.AttachOptions{AutoSettle: true})
	if err != nil {
		s.o.Refuse(w, r, err)
		return
	}
	defer a.Close(courier.Goodbye)
	t.gap, t.after = gap, req.After
	t.serve(s, w, r, a, func() time.Duration { return s.o.Core.Left(grant) })
}

// admit says who asks and for what.
func (s *Server) admit(r *http.Request) (req courier.Request, g *auth.Grant, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return req, nil, message.Problemf(message.CodeBadRequest, "the query of the address is malformed: %v", err)
	}
	for name, values := range q {
		if !slices.Contains([]string{"topic", "after", "ticket"}, name) {
			return req, nil, message.Problemf(message.CodeBadRequest, "query parameter %.40q is unknown; known here: topic, after, ticket", name)
		}
		if len(values) > 1 {
			return req, nil, message.Problemf(message.CodeBadRequest, "query parameter %s is there %d times; give it once", name, len(values))
		}
	}
	if !q.Has("topic") {
		return req, nil, message.Problemf(message.CodeBadFilter, "there is no filter; GET /v1/stream?topic=FILTER (%%23 is the wildcard #)")
	}
	if req.Filter, err = message.ParseFilter(q.Get("topic")); err != nil {
		return req, nil, err
	}
	after := q.Get("after")
	if last := strings.TrimSpace(r.Header.Get("Last-Event-ID")); last != "" {
		after = last
	}
	if after != "" {
		if req.After, err = message.ParseID(after); err != nil {
			return req, nil, err
		}
	}
	// The ticket is used up here, so everything that can be wrong with the request comes before.
	creds, err := auth.FromRequest(r)
	if err != nil {
		return req, nil, err
	}
	g, err = s.o.Core.Authenticate(r.Context(), creds)
	return req, g, err
}
