package cert

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	selfYears   = 10
	renewBefore = 365 * 24 * time.Hour // so long before its end the self-signed certificate is made anew
	maxNames    = 100                  // a router with many VLANs and its IPv6 addresses
)

// Names are what a certificate is for.
type Names struct {
	DNS []string // lower case
	IPs []netip.Addr
}

// SystemNames are the machine's name, <name>.local, localhost and all addresses that it has now, and the further
// names.
func SystemNames(further []string) Names {
	var n Names
	add := func(s string) {
		s = strings.ToLower(strings.TrimSuffix(s, "."))
		if a, err := netip.ParseAddr(s); err == nil {
			n.IPs = append(n.IPs, a.Unmap().WithZone(""))
		} else if dnsName(s) {
			n.DNS = append(n.DNS, s)
		}
	}
	if host, err := os.Hostname(); err == nil {
		add(host)
		if first, _, _ := strings.Cut(host, "."); first != "localhost" {
			add(first + ".local")
		}
	}
	add("localhost")
	for _, s := range further {
		add(s)
	}
	n.IPs = append(n.IPs, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	addrs, _ := net.InterfaceAddrs() // without the list, names still work
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsMulticast() {
			n.IPs = append(n.IPs, p.Addr().Unmap().WithZone(""))
		}
	}
	n.DNS = unique(n.DNS, strings.Compare)
	n.IPs = unique(n.IPs, netip.Addr.Compare)
	return n
}

func unique[T comparable](list []T, compare func(a, b T) int) []T {
	slices.SortFunc(list, compare)
	list = slices.Compact(list)
	return list[:min(len(list), maxNames)]
}

// dnsName is a name that a certificate may carry.
func dnsName(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// covers reports whether a certificate has all the names.
func covers(c *x509.Certificate, n Names) bool {
	for _, name := range n.DNS {
		if !slices.Contains(c.DNSNames, name) {
			return false
		}
	}
	for _, ip := range n.IPs {
		if !slices.ContainsFunc(c.IPAddresses, func(have net.IP) bool { return have.Equal(ip.AsSlice()) }) {
			return false
		}
	}
	return true
}

// self is the gateway's own key and the certificate that it signs for itself.
type self struct {
	path string // of the certificate
	key  *ecdsa.PrivateKey
	leaf *x509.Certificate
	cert *tls.Certificate
}

// openSelf reads key and certificate or makes them. It does not fail because a disk takes no writes while
// the key is there.
func openSelf(dir string, names Names, floor, now time.Time) (*self, error) {
	key, err := loadKey(filepath.Join(dir, "server.key"))
	if err != nil {
		return nil, err
	}
	s := &self{path: filepath.Join(dir, "server.pem"), key: key}
	old, err := loadCert(s.path, key)
	if err != nil {
		return nil, err
	}
	if old != nil {
		s.use(old)
	}
	_, err = s.renew(names, floor, now)
	if s.leaf == nil {
		return nil, err
	}
	return s, nil
}

func (s *self) use(c *x509.Certificate) {
	s.leaf = c
	s.cert = &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: s.key, Leaf: c}
}

// renew makes the certificate anew when it lacks a name or ends soon. It is used even when it cannot be written.
func (s *self) renew(names Names, floor, now time.Time) (changed bool, err error) {
	if s.leaf != nil && covers(s.leaf, names) && now.Before(s.leaf.NotAfter.Add(-renewBefore)) {
		return false, nil
	}
	der, err := s.sign(names, floor, now)
	if err != nil {
		return false, fmt.Errorf("make certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return false, fmt.Errorf("read the certificate that was made: %w", err)
	}
	s.use(c)
	return true, writeFile(s.path, encodeCerts(der))
}

// sign makes a certificate that is its own authority, so that one made later with the same key is
// accepted by who holds an earlier one. As an authority it is limited to the gateway's own names.
func (s *self) sign(names Names, floor, now time.Time) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	from := floor
	if s.leaf != nil && s.leaf.NotBefore.Before(from) {
		from = s.leaf.NotBefore
	}
	t := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "edgepost gateway " + hex.EncodeToString(id[:4])},
		NotBefore: from, NotAfter: later(from, now).AddDate(selfYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, SubjectKeyId: id[:20], AuthorityKeyId: id[:20],
		DNSNames: names.DNS,
	}
	for _, ip := range names.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	t.PermittedDNSDomains = unique(append([]string{"local", "localhost"}, names.DNS...), strings.Compare)
	return x509.CreateCertificate(rand.Reader, t, t, s.key.Public(), s.key)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
