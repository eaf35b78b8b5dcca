package cert

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"edgepost/appliance/message"
)

// Bounds of a device's certificates.
const (
	MaxDays       = 3650
	DefaultDays   = 825
	maxPerDevice  = 4        // when one more is issued the oldest ends
	maxRequest    = 16 << 10 // bytes of a signing request
	authorityYear = 20
)

// Issued is a device's certificate.
type Issued struct {
	Device string    `json:"device"`
	Serial string    `json:"serial"` // hex
	Until  time.Time `json:"until"`
}

// devices is the authority that signs for devices, and its book. Safe for concurrent use.
type devices struct {
	dir        string
	now        func() time.Time
	floor      time.Time
	registered func(device string) bool

	mu   sync.Mutex
	key  *ecdsa.PrivateKey // nil: there is no authority yet
	ca   *x509.Certificate
	book *book
	live map[digest]map[*wire]struct{} // connections that began with a certificate of the book
}

func openDevices(dir string, o *Options) (*devices, error) {
	d := &devices{dir: dir, now: o.Now, floor: o.Floor, registered: o.Registered, live: make(map[digest]map[*wire]struct{})}
	if _, err := os.Stat(d.path("ca.pem")); err == nil {
		if err := d.openAuthority(); err != nil {
			return nil, err
		}
	}
	var err error
	if d.book, err = openBook(d.path("devices")); err != nil {
		return nil, err
	}
	d.book.prune(func(e *entry) bool { return d.countsLocked(e) })
	return d, nil
}

func (d *devices) path(name string) string { return filepath.Join(d.dir, name) }

func (d *devices) openAuthority() error {
	key, err := loadKey(d.path("ca.key"))
	if err != nil {
		return err
	}
	ca, err := loadCert(d.path("ca.pem"), key)
	if err != nil {
		return err
	}
	if ca == nil {
		if ca, err = d.signAuthority(key); err != nil {
			return err
		}
	}
	d.key, d.ca = key, ca
	return nil
}

// signAuthority makes the authority's certificate. It can only sign for clients.
func (d *devices) signAuthority(key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	id := sha256.Sum256(spki)
	t := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "edgepost devices " + hex.EncodeToString(id[:4])},
		NotBefore: d.floor, NotAfter: d.now().AddDate(authorityYear, 0, 0), SubjectKeyId: id[:20],
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return c, writeFile(d.path("ca.pem"), encodeCerts(der))
}

// authority is the certificate that devices' certificates are checked with; nil while there is none.
func (d *devices) authority() *x509.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ca
}

func caName(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:8])
}

// countsLocked reports whether an entry of the book is good now.
func (d *devices) countsLocked(e *entry) bool {
	return d.ca != nil && e.ca == caName(d.ca) && e.until > d.now().Unix() && d.registered(e.device)
}

// issue signs a request for a device. made says that the authority is new.
func (d *devices) issue(device string, csr []byte, days int) (chain []byte, out Issued, made bool, err error) {
	req, err := readRequest(csr)
	if err != nil {
		return nil, out, false, err
	}
	switch {
	case days == 0:
		days = DefaultDays
	case days < 1 || days > MaxDays:
		return nil, out, false, message.Problemf(message.CodeBadRequest, "a certificate may be valid for 1 to %d days, not %d", MaxDays, days)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ca == nil {
		if err := d.openAuthority(); err != nil {
			return nil, out, false, err
		}
		made = true
	}
	t := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: device},
		NotBefore: d.floor, NotAfter: d.now().AddDate(0, 0, days),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if d.ca.NotAfter.Before(t.NotAfter) {
		t.NotAfter = d.ca.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, d.ca, req.PublicKey, d.key)
	if err != nil {
		return nil, out, made, fmt.Errorf("sign certificate: %w", err)
	}
	if err := d.book.end(d.surplusLocked(device)); err != nil {
		return nil, out, made, err
	}
	e := entry{device: device, serial: hexSerial(t.SerialNumber), ca: caName(d.ca), until: t.NotAfter.Unix()}
	if err := d.book.issue(sha256.Sum256(der), e); err != nil {
		return nil, out, made, err
	}
	return encodeCerts(der), e.issued(), made, nil
}

func (e *entry) issued() Issued {
	return Issued{Device: e.device, Serial: e.serial, Until: time.Unix(e.until, 0).UTC()}
}

func hexSerial(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// surplusLocked are the device's oldest certificates, so that one more is not too many.
func (d *devices) surplusLocked(device string) []digest {
	mine := d.ofLocked(device, "")
	return mine[:max(0, len(mine)-maxPerDevice+1)]
}

// ofLocked are the certificates of a device ("" all) with a serial number ("" any), oldest first.
func (d *devices) ofLocked(device, serial string) []digest {
	return d.book.sorted(func(e *entry) bool {
		return (device == "" || e.device == device) && (serial == "" || e.serial == serial)
	})
}

// readRequest reads a PKCS #10 request (RFC 2986), PEM or DER, and checks that who made it has the key. Its
// names do not matter: the certificate names the device.
func readRequest(b []byte) (*x509.CertificateRequest, error) {
	bad := func(format string, args ...any) (*x509.CertificateRequest, error) {
		return nil, message.Problemf(message.CodeBadRequest, "the certificate request is refused: "+format, args...)
	}
	if len(b) > maxRequest {
		return bad("it is larger than %d bytes", maxRequest)
	}
	if block, _ := pem.Decode(b); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return bad("it is a %.40q; make one with: openssl req -new", block.Type)
		}
		b = block.Bytes
	}
	req, err := x509.ParseCertificateRequest(b)
	if err != nil {
		return bad("it is not a PKCS #10 request in PEM or DER")
	}
	if err := goodKey(req.PublicKey); err != nil {
		return bad("%v", err)
	}
	if err := req.CheckSignature(); err != nil {
		return bad("its signature is wrong")
	}
	return req, nil
}

var errEnded = errors.New("the device's certificate was revoked, has expired or is another authority's")

// verify finds the device of a certificate that the authority has signed.
func (d *devices) verify(c *x509.Certificate) (string, error) {
	p := digest(sha256.Sum256(c.Raw))
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.book.entries[p]
	if !ok || !d.countsLocked(&e) {
		return "", errEnded
	}
	return e.device, nil
}

// attach is verify for a connection, which is cut when the certificate ends.
func (d *devices) attach(c *x509.Certificate, w *wire) (string, error) {
	p := digest(sha256.Sum256(c.Raw))
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.book.entries[p]
	if !ok || !d.countsLocked(&e) {
		return "", errEnded
	}
	if d.live[p] == nil {
		d.live[p] = make(map[*wire]struct{})
	}
	d.live[p][w] = struct{}{}
	w.onClose = func() { d.detach(p, w) }
	return e.device, nil
}

func (d *devices) detach(p digest, w *wire) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live[p], w)
	if len(d.live[p]) == 0 {
		delete(d.live, p)
	}
}

// revoke ends the device's certificates, or the one with the serial number, and cuts their
// connections. It is in effect even when the error says that it is not on disk yet.
func (d *devices) revoke(device, serial string) (n int, err error) {
	d.mu.Lock()
	list := d.ofLocked(device, serial)
	err = d.book.end(list)
	cut := d.connectionsLocked(list)
	d.mu.Unlock()
	for _, w := range cut {
		_ = w.Close() // not by TLS's own Close: that waits for who writes
	}
	return len(list), err
}

func (d *devices) connectionsLocked(list []digest) []*wire {
	var all []*wire
	for _, p := range list {
		for w := range d.live[p] {
			all = append(all, w)
		}
	}
	return all
}

// renew makes a new authority; all certificates of the old one end.
func (d *devices) renew() error {
	d.mu.Lock()
	key, err := newKey()
	if err == nil {
		err = writeFile(d.path("ca.key"), encodeKey(key))
	}
	var ca *x509.Certificate
	if err == nil {
		ca, err = d.signAuthority(key)
	}
	if err != nil {
		d.mu.Unlock()
		return fmt.Errorf("make a new authority: %w", err)
	}
	d.key, d.ca = key, ca
	list := d.ofLocked("", "")
	err = d.book.end(list)
	cut := d.connectionsLocked(list)
	d.mu.Unlock()
	for _, w := range cut {
		_ = w.Close()
	}
	return err
}

// list are the certificates that count, of one device or of all ("").
func (d *devices) list(device string) []Issued {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []Issued{}
	for _, p := range d.ofLocked(device, "") {
		if e := d.book.entries[p]; d.countsLocked(&e) {
			out = append(out, e.issued())
		}
	}
	return out
}

// tick tries again what could not be written, and cuts the connections of certificates that have ended
// by themselves.
func (d *devices) tick() error {
	d.mu.Lock()
	var ended []digest
	for p, e := range d.book.entries {
		if !d.countsLocked(&e) {
			ended = append(ended, p)
		}
	}
	err := d.book.end(ended)
	if err == nil {
		err = d.book.settle()
	}
	cut := d.connectionsLocked(ended)
	d.mu.Unlock()
	for _, w := range cut {
		_ = w.Close()
	}
	return err
}

// verifyConnection is tls.Config.VerifyConnection: it runs for resumed sessions too.
func (d *devices) verifyConnection(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	_, err := d.verify(s.PeerCertificates[0])
	return err
}
