package cert

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
)

// Conn is a connection whose handshake is done. Waiting in Read needs little stack and no buffer. Like
// every net.Conn it may be used by several goroutines, of which one reads.
type Conn struct {
	tls    *tls.Conn
	device string // that the client's certificate names; "" none
	dry    bool   // TLS has nothing left, and the socket had not; the reader's
	*wire         // deadlines and addresses are TCP's
}

func newConn(t *tls.Conn, w *wire, device string) *Conn {
	if w.raw != nil {
		w.eager, w.try = true, w.readFD
	}
	return &Conn{tls: t, wire: w, device: device}
}

// Device is the device that the client's certificate names; "" without one. It was in the book when the
// connection began; the connection is cut when it ends.
func (c *Conn) Device() string { return c.device }

// Thumbprint names the client's certificate; "" without one.
func (c *Conn) Thumbprint() string {
	if s := c.tls.ConnectionState(); len(s.PeerCertificates) > 0 {
		return Thumbprint(s.PeerCertificates[0])
	}
	return ""
}

// Thumbprint names a certificate as the claim cnf.x5t#S256 of a token does that is bound to it (RFC 8705 §3.1).
func Thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ConnectionState tells what the handshake agreed on.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// Wait returns when Read may have something, if only an error. A reader that waits here needs no
// buffer meanwhile.
func (c *Conn) Wait() error {
	if !c.dry {
		return nil
	}
	err := c.wait()
	c.dry = errors.Is(err, os.ErrDeadlineExceeded) // that brings nothing to read
	return err
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	for {
		if err := c.Wait(); err != nil {
			return 0, err
		}
		n, err := c.read(b)
		if n > 0 || !c.dry || len(b) == 0 {
			return n, err
		}
	}
}

// read takes what is there. When that was all it says so in dry, so that whoever reads next waits
// before it enters TLS.
func (c *Conn) read(b []byte) (int, error) {
	n, err := c.tls.Read(b)
	for err == nil && 0 < n && n < len(b) && c.eager {
		var more int
		more, err = c.tls.Read(b[n:])
		n += more
	}
	if errors.Is(err, errDry) {
		c.dry, err = true, nil
	}
	if n > 0 {
		err = nil // what ends a connection comes again
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) { return c.tls.Write(b) }

// CloseWrite says that nothing more comes.
func (c *Conn) CloseWrite() error { return errors.Join(c.tls.CloseWrite(), c.wire.CloseWrite()) }

// Close says so without waiting, and closes the connection.
func (c *Conn) Close() error {
	c.closing.Store(true)
	return c.tls.Close()
}
