package cert

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// rig is a keeper whose clock, names and devices the test moves.
type rig struct {
	*Keeper
	t   *testing.T
	dir string
	o   Options

	mu    sync.Mutex
	now   time.Time
	names Names
	gone  map[string]bool
}

func built() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// newRig makes a keeper in a directory of its own; change may change its options.
func newRig(t *testing.T, change func(o *Options)) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), now: built().AddDate(0, 6, 0), gone: make(map[string]bool),
		names: Names{DNS: []string{"gw", "gw.local", "localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	}
	r.o = Options{
		Dir: r.dir, Floor: built(),
		Now:        func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
		Names:      func() Names { r.mu.Lock(); defer r.mu.Unlock(); return r.names },
		Registered: func(d string) bool { r.mu.Lock(); defer r.mu.Unlock(); return !r.gone[d] },
	}
	if change != nil {
		change(&r.o)
	}
	r.reopen()
	return r
}

func (r *rig) reopen() {
	r.t.Helper()
	k, err := Open(r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Keeper = k
}

func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) string {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.path(name)
}

// roots are what a client trusts that was given the gateway's certificate.
func (r *rig) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM([]byte(r.Served().PEM))
	return p
}

// client is a client's configuration that trusts the gateway.
func (r *rig) client() *tls.Config {
	return &tls.Config{RootCAs: r.roots(), ServerName: "gw", Time: r.o.Now}
}

// serve runs an echo server over TLS and returns its address.
func (r *rig) serve(proto Protocol) string {
	r.t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	l := r.Listener(tcp, proto)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				answer := []byte("-") // to a client that has shown no certificate
				if d, ok := c.(*Conn); ok && d.Device() != "" {
					answer[0] = 'd'
				}
				for b := make([]byte, 1); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	r.t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return tcp.Addr().String()
}

// dial connects, and proves by an echo that the server has accepted the handshake: in TLS 1.3 the
// client's part of it ends before the server has looked at the client's certificate.
func (r *rig) dial(addr string, c *tls.Config) (*tls.Conn, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	t := conn.(*tls.Conn)
	answer, err := ask(t)
	if err == nil && len(c.Certificates) > 0 && answer != 'd' { // Go keeps a certificate of another authority to itself
		err = errors.New("the server takes the client for nobody")
	}
	return t, err
}

// ask returns what the server answers.
func ask(c net.Conn) (byte, error) {
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return b[0], err
}

// request is a device's key and its signing request.
func request(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// enrol issues a certificate to the device.
func (r *rig) enrol(device string) (tls.Certificate, Issued) {
	r.t.Helper()
	key, csr := request(r.t)
	text, issued, err := r.Issue(device, csr, 30)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := tls.X509KeyPair(text, encodeKey(key))
	if err != nil {
		r.t.Fatal(err)
	}
	return c, issued
}

func (r *rig) as(c tls.Certificate) *tls.Config {
	conf := r.client()
	conf.Certificates = []tls.Certificate{c}
	return conf
}
