package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"edgepost/appliance/guard"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/express"
	"edgepost/appliance/listener/httpapi"
	"edgepost/appliance/listener/mqtt"
	"edgepost/appliance/listener/oauthapi"
	"edgepost/appliance/listener/sse"
	"edgepost/appliance/listener/ws"
	"edgepost/appliance/message"
	"edgepost/web"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	writeTimeout  = 30 * time.Second // for a short answer
	// maxHeader has room for a topic of 65,535 bytes, each percent-encoded, in the request line.
	maxHeader = 3*message.MaxTopicBytes + 16<<10
)

// listen opens the control socket and the HTTP port.
func (a *Appliance) listen() error {
	k := &a.core
	sockets := ws.New(ws.Options{
		Authenticator: k, Publisher: k, Subscriber: k, Epoch: k.ob.Epoch(), Log: a.o.Log,
		AllowOrigin:    func(*http.Request) bool { return true }, // guard.Web has looked already
		MaxConnections: a.connections(), MaxInflight: a.cfg.Delivery.Window, MaxSubs: a.cfg.Limits.MaxSubscriptions, AckTimeout: a.cfg.Delivery.AckTimeout,
	})
	streams := sse.New(sse.Options{Core: k, Log: a.o.Log, Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
		httpapi.WriteProblem(w, r, a.o.Log, err)
	}})
	broker := mqtt.New(mqtt.Options{
		Authenticator: k, Publisher: k, Sessions: k, Subscriber: k, Wills: k, Version: a.o.Version, Log: a.o.Log,
		InInbox:        k.inInbox,
		Commands:       k.commands,
		Reaches:        k.c.Reaches,
		Owed:           k.c.Inboxed,
		Census:         func() mqtt.Census { return mqtt.Census(k.c.Census()) },
		MaxConnections: a.connections(), MaxMessage: int(a.cfg.Limits.MaxMessage), MaxInflight: a.cfg.Delivery.Window, SessionExpiry: a.cfg.Delivery.TTL,
	})
	k.kick = func(principal string) {
		sockets.Kick(principal)
		streams.Kick(principal)
		broker.Kick(principal)
		k.pulse.Kick(principal)
	}
	api, err := a.api(a.mounts(sockets, streams, broker))
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // without one, addresses still work
	names := slices.Concat(a.cfg.HTTP.Hosts, a.cfg.TLS.Names, a.cfg.TLS.ACME.Names)
	guarded, err := guard.Web{Host: host, Hosts: names, Origins: a.cfg.HTTP.AllowedOrigins}.Wrap(api)
	if err != nil {
		return fmt.Errorf("[http] allowed_origins: %w", err)
	}
	if err := a.listenControl(api); err != nil {
		return err
	}
	l, err := net.Listen("tcp", a.cfg.HTTP.Addr)
	if err != nil {
		return busy("HTTP", "-http", a.cfg.HTTP.Addr, err)
	}
	a.addr = l.Addr().String()
	gate := guard.Sources{WAN: a.cfg.WAN}.Listener(l)
	places := newRoom(gate, a.connections())
	web := behindProxies(a.cfg.HTTP.Proxies(), guarded)
	if k.certs != nil {
		web = k.certs.Challenges(web)
	}
	lane := express.New(places, express.Options{
		Handler: web, Takes: httpapi.Short, HeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, WriteTimeout: writeTimeout, Log: a.o.Log,
	})
	a.onStop("http publishes", lane.Wait)
	a.serve("http", lane, web, nil)
	a.onStop("mqtt", broker.Close)
	broker.RestoreWills()
	if err := errors.Join(a.listenMQTT(broker), a.listenSecure(web, broker)); err != nil {
		return err
	}
	a.background("tokens", func(ctx context.Context) { k.endTokens(ctx, sockets, broker, streams) })
	a.onStop("websocket", sockets.Close)
	k.connections = func() int { return places.taken() + a.secured.taken() + int(broker.Stats().Connections) }
	a.background("memory", func(ctx context.Context) { trim(ctx, a.o.Log, k.connections) })
	a.background("live feed", k.pulse.Run)
	a.onStop("jobs", func(context.Context) error { k.jobs.Close(); return nil })
	return nil
}

// api is the HTTP interface: the calls, the dashboard, and what is mounted.
func (a *Appliance) api(mounts []httpapi.Mount) (http.Handler, error) {
	page, err := web.Handler()
	if err != nil {
		return nil, err
	}
	return httpapi.New(httpapi.Options{
		Core: &a.core, Version: a.o.Version, Gateway: a.core.reg.Name, MaxMessage: a.cfg.Limits.MaxMessage, MaxBatch: a.cfg.Limits.MaxBatch,
		Log: a.o.Log,
		Now: func() (time.Time, bool) { return time.Now(), a.clock.Trusted() },
		Mounts: append(mounts,
			httpapi.Mount{Pattern: "/", Summary: "the dashboard", Files: true, Handler: page},
			httpapi.Mount{Pattern: "/assets/{file}", Summary: "its files", Files: true, Handler: page}),
	}), nil
}

// mounts are what other listeners serve beside the API.
func (a *Appliance) mounts(sockets, streams, broker http.Handler) []httpapi.Mount {
	list := []httpapi.Mount{
		{Pattern: "/v1/ws", Summary: "WebSocket", Handler: sockets},
		{Pattern: "/v1/stream", Summary: "Server-Sent Events", Handler: streams},
		{Pattern: "/mqtt", Summary: "MQTT over WebSocket", Handler: broker},
	}
	for _, e := range oauthapi.Endpoints(&a.core, a.o.Log) {
		list = append(list, httpapi.Mount{Method: e.Method, Pattern: e.Path, Summary: e.Summary, Handler: e.Handler})
	}
	return list
}

// listenMQTT opens the MQTT port. The default port may belong to a broker that is there already; that
// is no reason not to start.
func (a *Appliance) listenMQTT(broker *mqtt.Server) error {
	l, err := net.Listen("tcp", a.cfg.MQTT.Addr)
	if err != nil {
		err = busy("MQTT", "-mqtt", a.cfg.MQTT.Addr, err)
		if a.asked.mqtt {
			return err
		}
		a.o.Log.Warn("MQTT is not served", "why", err)
		return nil
	}
	a.mqtt = l.Addr().String()
	a.serveMQTT("mqtt port", guard.Sources{WAN: a.cfg.WAN}.Listener(l), broker)
	return nil
}

// serveMQTT has the broker serve a port until Stop.
func (a *Appliance) serveMQTT(name string, l net.Listener, broker *mqtt.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := broker.Serve(l); err != nil && !errors.Is(err, mqtt.ErrClosed) && !errors.Is(err, net.ErrClosed) {
			a.o.Log.Error("server ended", "server", name, "error", err)
		}
	}()
	a.onStop(name, func(context.Context) error {
		err := l.Close()
		<-done
		if errors.Is(err, net.ErrClosed) { // the server closed it, because accepting failed or it is stopping
			return nil
		}
		return err
	})
}

func (a *Appliance) connections() int {
	if n := a.cfg.Limits.MaxConnections; n > 0 {
		return n
	}
	return max(a.limits.Connections, 16)
}

// listenControl opens the control socket: who can open it is the owner.
func (a *Appliance) listenControl(api http.Handler) error {
	var failed error
	for _, path := range []string{SocketPath(a.cfg.Data), FallbackSocketPath(a.cfg.Data)} {
		// The data directory is locked by us, so a socket that is there is a dead process's.
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
			continue
		}
		old := syscall.Umask(0o177)
		l, err := net.Listen("unix", path)
		syscall.Umask(old)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		owner := a.core.Owner()
		a.serve("control socket", l, api, func(ctx context.Context, _ net.Conn) context.Context { return auth.WithGrant(ctx, owner) })
		return nil
	}
	return fmt.Errorf("open control socket: %w", failed)
}

// serve runs a server until Stop.
func (a *Appliance) serve(name string, l net.Listener, h http.Handler, conn func(context.Context, net.Conn) context.Context) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS, where the client wants it
	protocols.SetUnencryptedHTTP2(true)
	base, cancel := context.WithCancel(context.Background())
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, Protocols: protocols,
		ConnContext: conn, BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog: slog.NewLogLogger(a.o.Log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.o.Log.Error("server ended", "server", name, "error", err)
		}
	}()
	a.onStop(name, func(ctx context.Context) error {
		cancel() // long polls and streams end now
		err := s.Shutdown(ctx)
		if err != nil {
			err = s.Close()
		}
		<-done
		return err
	})
}

// behindProxies has requests that come through a trusted proxy count as coming from the client that
// the proxy names: the last address in X-Forwarded-For that is not a trusted proxy's itself.
func behindProxies(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	known := func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, port, err := net.SplitHostPort(r.RemoteAddr)
		if err == nil && known(host) {
			hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
			for _, hop := range slices.Backward(hops) {
				hop := strings.TrimSpace(hop)
				if _, err := netip.ParseAddr(hop); err != nil {
					break
				}
				if r.RemoteAddr = net.JoinHostPort(hop, port); !known(hop) {
					break
				}
			}
			https := strings.EqualFold(strings.TrimSpace(r.Header.Get("X-Forwarded-Proto")), "https")
			r = r.WithContext(auth.WithProxy(r.Context(), https))
		}
		next.ServeHTTP(w, r)
	})
}

// busy explains why an address could not be listened on, and names the flag that changes it.
func busy(what, option, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s address %s is in use by another program; choose another with %s", what, addr, option)
	}
	return fmt.Errorf("listen for %s on %s: %w; choose another with %s", what, addr, err, option)
}
