package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Epoch is one connection to one address, from its dialling to its end: what a connector is told of it, and what a
// connector tells. The first failure ends it, wherever it is noticed, and stays its reason. Methods are safe for
// concurrent use.
//
// Invariant: nothing of a connection runs any more, and all of it is closed, when [Epoch.End] has returned.
type Epoch struct {
	URL    *url.URL
	Probe  bool   // only look: take no session over, receive nothing, change nothing
	Up     bool   // messages will be sent
	Inlet  Inlet  // takes what comes; nil when nothing is to
	Secret string // password or token, as it was when the epoch was dialled; "" none

	kind        *Kind
	c           *Config
	credentials *credentials
	ctx         context.Context // ends with the epoch; its cause is the reason
	cancel      context.CancelCauseFunc
	work        sync.WaitGroup

	mu      sync.Mutex    // guards what follows
	closers []func()      // called at the end, the last one first
	trials  []func() bool // see Connect
}

// NewEpoch begins an epoch that ends with ctx at the latest.
func NewEpoch(ctx context.Context, kind *Kind, c *Config, u *url.URL) *Epoch {
	e := &Epoch{URL: u, Up: len(c.Up.Filters) > 0, kind: kind, c: c, credentials: &credentials{c: c}}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	return e
}

// Dial has the connector dial, for half a minute at most. Errors say what can help. [Epoch.End] is to be called
// whatever comes of it.
func (e *Epoch) Dial(d Dialer) (Conn, error) {
	ctx, cancel := context.WithTimeout(e.ctx, dialTimeout)
	defer cancel()
	var err error
	if e.Secret, err = e.credentials.get(ctx); err != nil {
		return nil, err
	}
	conn, err := d.Dial(ctx, e)
	switch {
	case err != nil && e.ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil, context.Cause(e.ctx)
	case err != nil && e.ctx.Err() == nil && ctx.Err() != nil:
		return nil, Errorf(Temporary, "no answer from %s within %v: %w", e.URL.Host, dialTimeout, err)
	case err != nil:
		return nil, e.explain(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, stop := range e.trials {
		if !stop() {
			return nil, context.Cause(ctx)
		}
	}
	return conn, nil
}

// Connect opens the network connection to the address, over TLS where its scheme says so. It is closed with the epoch;
// and with ctx, if that is done before the dialling is: the handshakes of libraries know no context.
func (e *Epoch) Connect(ctx context.Context) (net.Conn, error) {
	c, err := e.Open(ctx, e.URL.Host)
	if err != nil {
		return nil, err
	}
	hangUp := func() { _ = c.Close() } // what was on its way counts as not sent
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closers = append(e.closers, hangUp)
	e.trials = append(e.trials, context.AfterFunc(ctx, hangUp))
	return c, nil
}

// Open opens a network connection as Connect does, to a host that need not be the address's. The caller closes it. It
// notices a dead peer by TCP's own probes within about two minutes; protocols with heartbeats notice earlier.
func (e *Epoch) Open(ctx context.Context, host string) (net.Conn, error) {
	var scheme Scheme
	if i := slices.IndexFunc(e.kind.Schemes, func(s Scheme) bool { return s.Name == e.URL.Scheme }); i >= 0 {
		scheme = e.kind.Schemes[i]
	}
	to := &url.URL{Host: host}
	name, port := to.Hostname(), to.Port()
	if port == "" {
		port = scheme.Port
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 5}}
	plain, err := d.DialContext(ctx, "tcp", net.JoinHostPort(name, port))
	if err != nil || !scheme.Secure {
		return plain, err
	}
	secure, err := e.secure(ctx, plain, name)
	if err != nil {
		_ = plain.Close()
	}
	return secure, err
}

// tlsTimeout is how long a handshake may take: a broker that expects something else may wait as we do.
const tlsTimeout = 15 * time.Second

func (e *Epoch) secure(ctx context.Context, plain net.Conn, name string) (net.Conn, error) {
	conf, err := e.c.TLS(name)
	if err != nil {
		return nil, err
	}
	t := tls.Client(plain, conf)
	limit, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err = t.HandshakeContext(limit); err == nil {
		return t, nil
	}
	if limit.Err() != nil && ctx.Err() == nil {
		err = Errorf(Temporary, "nothing came within %v; does the port speak TLS?", tlsTimeout)
	}
	err = Classify(fmt.Errorf("TLS handshake: %w", err))
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = Errorf(Temporary, "%w; does the port speak TLS?", err)
	}
	return nil, err
}

// Go runs a part of the connection until its context is done, which ends with the epoch. Its error ends the epoch. What
// it waits for must return when the epoch's closers have been called.
func (e *Epoch) Go(part func(ctx context.Context) error) {
	e.work.Go(func() {
		if err := part(e.ctx); err != nil {
			e.Fail(err)
		}
	})
}

// OnEnd has fn called when the epoch ends, before the network connections made until then are closed: for a good-bye.
// It may be called while the connector sends.
func (e *Epoch) OnEnd(fn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closers = append(e.closers, fn)
}

// Fail ends the epoch, if nothing did before; nil means that the upstream ended it without a word.
func (e *Epoch) Fail(err error) {
	if err == nil {
		err = errors.New("the upstream closed the connection")
	}
	e.cancel(e.explain(err))
}

// End ends the epoch, and returns why it had ended before, if it had.
func (e *Epoch) End() error {
	e.cancel(nil)
	e.mu.Lock()
	closers := e.closers
	e.closers = nil
	e.mu.Unlock()
	for _, fn := range slices.Backward(closers) {
		fn()
	}
	e.work.Wait()
	return context.Cause(e.ctx)
}

// explain says what can help against an error that does not say it yet: of a temporary one the protocol may know more.
// What somebody has to change may be the rights of a token, so another one is shown next.
func (e *Epoch) explain(err error) error {
	if e.kind.Explain != nil && Classify(err).Class == Temporary {
		err = e.kind.Explain(err)
	}
	if Classify(err).Class == Configuration {
		e.credentials.forget()
	}
	return err
}
