package cert

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFirstStart(t *testing.T) {
	r := newRig(t, nil)
	s := r.Served()
	if s.Source != "self-signed" || !s.From.Equal(built()) || s.Until.Sub(r.now) < 9*365*24*time.Hour || !strings.HasPrefix(s.Fingerprint, "sha256/") {
		t.Errorf("served %+v", s)
	}
	if want := []string{"gw", "gw.local", "localhost", "127.0.0.1"}; !slices.Equal(s.Names, want) {
		t.Errorf("names %v, want %v", s.Names, want)
	}
	for _, name := range []string{"server.key", "server.pem"} {
		if info, err := os.Stat(r.path(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	r.reopen()
	if again := r.Served(); again.PEM != s.PEM {
		t.Error("the second start made another certificate")
	}
}

// A client that was given the certificate once goes on to trust the gateway when its addresses change, and
// trusts whoever has that key for no other name.
func TestNamesChange(t *testing.T) {
	r := newRig(t, nil)
	before, old := r.Served(), r.client()
	addr := r.serve(HTTP)
	r.set(func() { r.names.IPs = append(r.names.IPs, netip.MustParseAddr("192.168.7.7")) })
	r.tick()
	after := r.Served()
	if after.PEM == before.PEM || after.Fingerprint != before.Fingerprint || !slices.Contains(after.Names, "192.168.7.7") {
		t.Errorf("%+v\n%+v", before, after)
	}
	for _, name := range []string{"gw", "192.168.7.7"} {
		old.ServerName = name
		if _, err := r.dial(addr, old); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.tick()
	if r.Served().PEM != after.PEM {
		t.Error("made anew without a reason")
	}

	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: built(), NotAfter: r.now.AddDate(1, 0, 0), DNSNames: []string{"bank.example"},
	}, r.self.leaf, r.self.key.Public(), r.self.key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Verify(x509.VerifyOptions{Roots: old.RootCAs, CurrentTime: r.now, DNSName: "bank.example"}); err == nil {
		t.Error("the gateway's key vouches for somebody else's name")
	}
}

func TestSelfSignedIsRenewed(t *testing.T) {
	r := newRig(t, nil)
	before := r.Served()
	r.set(func() { r.now = before.Until.Add(-renewBefore + time.Hour) })
	r.tick()
	after := r.Served()
	if !after.Until.After(before.Until.AddDate(8, 0, 0)) || after.Fingerprint != before.Fingerprint || !after.From.Equal(before.From) {
		t.Errorf("%+v\n%+v", before, after)
	}
}

func TestDamagedFiles(t *testing.T) {
	r := newRig(t, nil)
	before := r.Served().Fingerprint
	r.write("server.pem", "not a certificate")
	r.reopen()
	if got := r.Served().Fingerprint; got != before {
		t.Errorf("another key: %s", got)
	}
	r.write("server.key", "not a key")
	if _, err := Open(r.o); err == nil || !strings.Contains(err.Error(), "server.key is damaged") {
		t.Errorf("a damaged key: %v", err)
	}
}

// A disk that takes no writes costs the file, not the certificate.
func TestSelfSignedIsUsedUnwritten(t *testing.T) {
	r := newRig(t, nil)
	if err := os.Remove(r.path("server.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.path("server.pem"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.set(func() { r.names.DNS = append(r.names.DNS, "new.local") })
	r.tick()
	if !slices.Contains(r.Served().Names, "new.local") || len(r.Warnings()) != 1 {
		t.Errorf("%v, warnings %q", r.Served().Names, r.Warnings())
	}
}

func TestSystemNames(t *testing.T) {
	n := SystemNames([]string{"GW.example.", "10.1.2.3", "bad name", "fe80::1%eth0", "10.1.2.3"})
	for _, want := range []string{"gw.example", "localhost"} {
		if !slices.Contains(n.DNS, want) {
			t.Errorf("%v lacks %s", n.DNS, want)
		}
	}
	for _, want := range []string{"10.1.2.3", "127.0.0.1", "::1", "fe80::1"} {
		if !slices.Contains(n.IPs, netip.MustParseAddr(want)) {
			t.Errorf("%v lacks %s", n.IPs, want)
		}
	}
	if slices.Contains(n.DNS, "bad name") || !slices.IsSorted(n.DNS) {
		t.Errorf("%v", n.DNS)
	}
}

// pairFiles writes a certificate of the operator's own and returns its fingerprint.
func (r *rig) pairFiles(cert, key string) string {
	r.t.Helper()
	k, err := newKey()
	if err != nil {
		r.t.Fatal(err)
	}
	s := &self{key: k}
	der, err := s.sign(Names{DNS: []string{"gw"}}, built(), built())
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(cert, string(encodeCerts(der)))
	r.write(key, string(encodeKey(k)))
	return Fingerprint(c)
}

func TestOwnFiles(t *testing.T) {
	r := newRig(t, nil)
	want := r.pairFiles("own.pem", "own.key")
	r.o.CertFile, r.o.KeyFile = r.path("own.pem"), r.path("own.key")
	r.reopen()
	addr := r.serve(HTTP)
	shown := func() string {
		t.Helper()
		c, err := r.dial(addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is looked at below
		if err != nil {
			t.Fatal(err)
		}
		return Fingerprint(c.ConnectionState().PeerCertificates[0])
	}
	if got := shown(); got != want || r.Served().Fingerprint != want || r.Served().Source != "file" {
		t.Errorf("%s is shown, want %s", got, want)
	}
	for _, bad := range []string{"", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		r.write("own.pem", bad)
		r.tick()
		if got := shown(); got != want || len(r.Warnings()) != 1 || !strings.Contains(r.Warnings()[0], "goes on") {
			t.Errorf("%q: %s is shown, warnings %q", bad, got, r.Warnings())
		}
	}
	next := r.pairFiles("own.pem", "own2.key") // another key: half a change
	r.tick()
	if got := shown(); got != want || len(r.Warnings()) != 1 {
		t.Errorf("half a change: %s is shown, warnings %q", got, r.Warnings())
	}
	if err := os.Rename(r.path("own2.key"), r.path("own.key")); err != nil {
		t.Fatal(err)
	}
	r.tick()
	if got := shown(); got != next || len(r.Warnings()) != 0 {
		t.Errorf("the whole change: %s is shown, want %s; warnings %q", got, next, r.Warnings())
	}
	r.write("own.pem", "")
	if _, err := Open(r.o); err == nil || !strings.Contains(err.Error(), "own.pem") {
		t.Errorf("a start with a broken file: %v", err)
	}
}
