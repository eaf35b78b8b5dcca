package cert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/message"
)

// Profile is which clients are served.
type Profile string

// The profiles.
const (
	Compatible Profile = "compatible" // TLS 1.2 with ECDHE and AEAD, and 1.3
	Modern     Profile = "modern"     // TLS 1.3
)

// tickEvery is how soon a changed file or address is noticed.
const tickEvery = 5 * time.Second

// Options are what [Open] needs. Dir, Now, Floor and Registered are required.
type Options struct {
	Dir        string
	Now        func() time.Time         // never before Floor
	Floor      time.Time                // certificates made here begin with it: when the program was built
	Names      func() Names             // what the self-signed certificate is for; nil: SystemNames
	Registered func(device string) bool // whether the device exists
	Trusted    func() bool              // whether the clock is right; nil: always
	CertFile   string                   // of the operator's own certificate; "" none
	KeyFile    string
	Profile    Profile // "" Compatible
	ACME       ACME
	Log        *slog.Logger // nil: none
}

// ACME is how certificates are got for names that resolve publicly; zero: they are not.
type ACME struct {
	Names     []string
	Email     string // "" none
	Directory string // URL
	CAFile    string // authorities of the directory's own certificate, PEM; "" the system's
}

// Keeper holds the gateway's certificates. Make one with [Open]; it is safe for concurrent use.
type Keeper struct {
	o       Options
	devices *devices
	acme    *acmeOrder // nil: not configured

	configs [2]atomic.Pointer[tls.Config] // by Protocol; replaced when the authority for devices is

	mu       sync.RWMutex
	self     *self
	own      *pair // nil: none is configured
	warnings map[string]string
}

// ConfigError is a mistake in what the operator configured.
type ConfigError struct{ err error }

func (e *ConfigError) Error() string { return e.err.Error() }

// Unwrap returns what it is about.
func (e *ConfigError) Unwrap() error { return e.err }

// Open reads the directory, which it makes where it is missing, and makes what is not there. The error
// says what to do about it; of the configuration's files it is a [ConfigError].
func Open(o Options) (*Keeper, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Names == nil {
		o.Names = func() Names { return SystemNames(nil) }
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for keys: %w", err)
	}
	k := &Keeper{o: o, warnings: make(map[string]string)}
	if o.CertFile != "" {
		k.own = &pair{certFile: o.CertFile, keyFile: o.KeyFile}
		if _, err := k.own.reload(); err != nil {
			return nil, &ConfigError{err}
		}
	}
	var err error
	if k.self, err = openSelf(o.Dir, o.Names(), o.Floor, o.Now()); err != nil {
		return nil, err
	}
	if k.devices, err = openDevices(o.Dir, &k.o); err != nil {
		return nil, err
	}
	if k.devices.book.damaged {
		k.warn("book", "the disk damaged the book of device certificates; certificates that were issued before the damage no longer count: issue them again")
	}
	if len(o.ACME.Names) > 0 {
		if k.acme, err = newACME(k); err != nil {
			return nil, err
		}
	}
	k.configure()
	return k, nil
}

// Run keeps the certificates fresh until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if k.acme != nil {
			k.acme.run(ctx)
		}
	}()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			k.tick()
		}
	}
	<-done
}

// tick looks at everything that changes from outside.
func (k *Keeper) tick() {
	k.mu.Lock()
	if k.own != nil {
		switch changed, err := k.own.reload(); {
		case err != nil:
			k.warnLocked("own", err.Error()+"; the certificate that was read before goes on")
		case changed:
			k.clearLocked("own")
			k.o.Log.Info("the certificate was read again", "file", k.o.CertFile, "fingerprint", Fingerprint(k.own.cert.Leaf))
		}
	}
	changed, err := k.self.renew(k.o.Names(), k.o.Floor, k.o.Now())
	if changed {
		k.o.Log.Info("the self-signed certificate was made anew for the names and addresses of now", "fingerprint", Fingerprint(k.self.leaf))
	}
	k.noteLocked("self", err)
	k.mu.Unlock()
	err = k.devices.tick()
	k.mu.Lock()
	k.noteLocked("devices", err)
	k.mu.Unlock()
}

func (k *Keeper) noteLocked(about string, err error) {
	if err != nil {
		k.warnLocked(about, err.Error())
	} else {
		k.clearLocked(about)
	}
}

func (k *Keeper) warn(about, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warnLocked(about, text)
}

func (k *Keeper) warnLocked(about, text string) {
	if k.warnings[about] != text {
		k.warnings[about] = text
		k.o.Log.Warn("TLS needs attention", "why", text)
	}
}

func (k *Keeper) clearLocked(about string) { delete(k.warnings, about) }

// Warnings say what a person should look at.
func (k *Keeper) Warnings() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	list := make([]string, 0, len(k.warnings))
	for _, w := range k.warnings {
		list = append(list, w)
	}
	slices.Sort(list)
	return list
}

// configure makes the configurations. They are replaced, never changed or cloned: each has ticket keys of its
// own, so what was agreed under one cannot be resumed under the next.
func (k *Keeper) configure() {
	for _, p := range [...]Protocol{HTTP, MQTT} {
		c := &tls.Config{
			Time: k.o.Now, GetCertificate: k.certificate, MinVersion: tls.VersionTLS12, CipherSuites: suites(),
			VerifyConnection: k.devices.verifyConnection,
		}
		if k.o.Profile == Modern {
			c.MinVersion = tls.VersionTLS13
		}
		if p == HTTP {
			c.NextProtos = []string{"h2", "http/1.1"}
			if k.acme != nil {
				c.NextProtos = append(c.NextProtos, alpnProto)
			}
		}
		if ca := k.devices.authority(); ca != nil {
			c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
			c.ClientCAs.AddCert(ca)
		}
		k.configs[p].Store(c)
	}
}

// alpnProto is the protocol of tls-alpn-01 (RFC 8737 §3).
const alpnProto = "acme-tls/1"

// suites are what is offered to TLS 1.2: forward secrecy and authenticated encryption, no CBC.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

func (k *Keeper) config(p Protocol) *tls.Config { return k.configs[p].Load() }

// certificate chooses what a client is shown: by ACME for the names that it has one for, else the operator's
// own, else the self-signed one.
func (k *Keeper) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if k.acme != nil {
		if slices.Equal(h.SupportedProtos, []string{alpnProto}) {
			return k.acme.challenge(h.ServerName)
		}
		if c := k.acme.certificate(h.ServerName); c != nil {
			return c, nil
		}
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.own != nil {
		return k.own.cert, nil
	}
	return k.self.cert, nil
}

// Challenges answers http-01 of ACME (RFC 8555 §8.3), and gives everything else to next.
func (k *Keeper) Challenges(next http.Handler) http.Handler {
	if k.acme == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.URL.Path, "/.well-known/acme-challenge/")
		if answer, known := k.acme.response(token); ok && known {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte(answer)) // nobody may be there to read it
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Served describes the certificate that a client without a name of its own wish is shown.
type Served struct {
	Source      string      `json:"source"` // self-signed or file
	Fingerprint string      `json:"fingerprint"`
	Names       []string    `json:"names"`
	From        time.Time   `json:"not_before"`
	Until       time.Time   `json:"not_after"`
	PEM         string      `json:"pem"` // the chain; what curl takes as --cacert when it is self-signed
	ACME        *ServedACME `json:"acme,omitempty"`
}

// ServedACME is the certificate for the names of ACME.
type ServedACME struct {
	Fingerprint string    `json:"fingerprint,omitempty"`
	Names       []string  `json:"names"`
	Until       time.Time `json:"not_after,omitzero"` // zero: there is none yet
}

// Served returns it.
func (k *Keeper) Served() Served {
	k.mu.RLock()
	source, c := "self-signed", k.self.cert
	if k.own != nil {
		source, c = "file", k.own.cert
	}
	k.mu.RUnlock()
	s := Served{Source: source, Fingerprint: Fingerprint(c.Leaf), Names: namesOf(c.Leaf), From: c.Leaf.NotBefore, Until: c.Leaf.NotAfter, PEM: string(encodeCerts(c.Certificate...))}
	if k.acme != nil {
		s.ACME = &ServedACME{Names: k.o.ACME.Names}
		if c := k.acme.certificate(k.o.ACME.Names[0]); c != nil {
			s.ACME.Fingerprint, s.ACME.Until = Fingerprint(c.Leaf), c.Leaf.NotAfter
		}
	}
	return s
}

func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, a.Unmap().String())
		}
	}
	return names
}

// Issue signs a device's request (PKCS #10, PEM or DER) for so many days, 0 for [DefaultDays], and returns
// the certificate in PEM. It counts once Issue has returned, durably. Of a device the newest four count.
func (k *Keeper) Issue(device string, csr []byte, days int) (chain []byte, out Issued, err error) {
	chain, out, made, err := k.devices.issue(device, csr, days)
	if made {
		k.configure()
	}
	return chain, out, storage(err)
}

// Revoke ends the device's certificates, or only the one with the serial number, at once: the next handshake or request is
// refused, resumed sessions too, and open connections are cut. It returns how many there were.
func (k *Keeper) Revoke(device, serial string) (int, error) {
	n, err := k.devices.revoke(device, strings.ToLower(serial))
	return n, storage(err)
}

// Authority returns the certificate of the authority for devices, PEM; nil before the first certificate.
func (k *Keeper) Authority() []byte {
	ca := k.devices.authority()
	if ca == nil {
		return nil
	}
	return encodeCerts(ca.Raw)
}

// RenewAuthority makes a new authority for devices; all their certificates end.
func (k *Keeper) RenewAuthority() error {
	err := k.devices.renew()
	k.configure()
	return storage(err)
}

// Issued lists the certificates that count, oldest first, of one device or of all ("").
func (k *Keeper) Issued(device string) []Issued { return k.devices.list(device) }

// Device is the device of a connection's certificate; "" when the client showed none. The error says that the
// certificate has ended since.
func (k *Keeper) Device(s *tls.ConnectionState) (string, error) {
	if s == nil || len(s.PeerCertificates) == 0 {
		return "", nil
	}
	device, err := k.devices.verify(s.PeerCertificates[0])
	if err != nil {
		return "", message.Problemf(message.CodeUnauthorized, "%v", err)
	}
	return device, nil
}

// storage words an error that is the disk's.
func storage(err error) error {
	if err == nil || message.ProblemOf(err) != nil {
		return err
	}
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return message.Problemf(message.CodeStorageFailed, "%v", err)
	}
	return err
}
