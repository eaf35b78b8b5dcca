package cert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

func TestDeviceCertificate(t *testing.T) {
	r := newRig(t, nil)
	if r.Authority() != nil {
		t.Error("there is an authority without need")
	}
	addr := r.serve(MQTT)
	lamp, issued := r.enrol("lamp1")
	if issued.Device != "lamp1" || len(issued.Serial) != 32 || issued.Until.Sub(r.now).Hours() < 29*24 {
		t.Errorf("%+v", issued)
	}
	conn, err := r.dial(addr, r.as(lamp))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.dial(addr, r.client()); err != nil {
		t.Errorf("without a certificate: %v", err)
	}
	r.reopen() // what was issued counts after a restart; conn is the old process's
	_ = conn.Close()
	if list := r.Issued("lamp1"); len(list) != 1 || list[0] != issued {
		t.Errorf("after a restart: %+v", list)
	}
	if _, err := r.dial(r.serve(MQTT), r.as(lamp)); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// ends are the ways in which a certificate ends.
func ends() map[string]func(r *rig, i Issued) error {
	return map[string]func(r *rig, i Issued) error{
		"all revoked":    func(r *rig, i Issued) error { _, err := r.Revoke(i.Device, ""); return err },
		"one revoked":    func(r *rig, i Issued) error { _, err := r.Revoke(i.Device, strings.ToUpper(i.Serial)); return err },
		"device removed": func(r *rig, i Issued) error { r.set(func() { r.gone[i.Device] = true }); r.tick(); return nil },
		"new authority":  func(r *rig, _ Issued) error { return r.RenewAuthority() },
		"expired":        func(r *rig, i Issued) error { r.set(func() { r.now = i.Until.Add(time.Second) }); r.tick(); return nil },
	}
}

// However it ends, a certificate then opens no new connection, no resumed one, and the open ones end.
func TestCertificateEnds(t *testing.T) {
	for name, end := range ends() {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			r := newRig(t, nil)
			addr := r.serve(MQTT)
			lamp, issued := r.enrol("lamp1")
			other, _ := r.enrol("lamp2")
			conf := r.as(lamp)
			conf.MaxVersion = version
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			live, err := r.dial(addr, conf)
			if err != nil {
				t.Fatal(err)
			}
			again, err := r.dial(addr, conf)
			if err != nil || !again.ConnectionState().DidResume {
				t.Fatalf("%s, %x: nothing was resumed: %v", name, version, err)
			}
			if err := end(r, issued); err != nil {
				t.Fatal(err)
			}
			for _, c := range []*tls.Conn{live, again} {
				if _, err := ask(c); err == nil {
					t.Errorf("%s, %x: an open connection goes on", name, version)
				}
			}
			if _, err := r.dial(addr, conf); err == nil {
				t.Errorf("%s, %x: resumed", name, version)
			}
			conf.ClientSessionCache = nil
			if _, err := r.dial(addr, conf); err == nil {
				t.Errorf("%s, %x: a new handshake", name, version)
			}
			if _, err := r.dial(addr, r.as(other)); (err == nil) != (name != "new authority" && name != "expired") {
				t.Errorf("%s, %x: another device: %v", name, version, err)
			}
			if _, err := r.dial(addr, r.client()); err != nil {
				t.Errorf("%s, %x: without a certificate: %v", name, version, err)
			}
			r.devices.mu.Lock()
			if n := len(r.devices.live); n > 1 { // lamp2's at most
				t.Errorf("%s: %d certificates have connections", name, n)
			}
			r.devices.mu.Unlock()
			r.reopen()
			if got := r.Issued("lamp1"); len(got) != 0 {
				t.Errorf("%s: after a restart %+v", name, got)
			}
		}
	}
}

// A request on an open HTTP connection is refused as well.
func TestDeviceOfState(t *testing.T) {
	r := newRig(t, nil)
	lamp, _ := r.enrol("lamp1")
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{lamp.Leaf}}
	if d, err := r.Device(state); d != "lamp1" || err != nil {
		t.Error(d, err)
	}
	if d, err := r.Device(nil); d != "" || err != nil {
		t.Error(d, err)
	}
	if n, err := r.Revoke("lamp1", ""); n != 1 || err != nil {
		t.Error(n, err)
	}
	if d, err := r.Device(state); d != "" || message.ProblemOf(err) == nil {
		t.Error(d, err)
	}
}

// A certificate that the authority has signed does not count unless it is in the book: a copy of the key of old,
// or a line that was lost.
func TestOnlyTheBookCounts(t *testing.T) {
	r := newRig(t, nil)
	lamp, _ := r.enrol("lamp1")
	if err := os.Remove(r.path("devices")); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	if _, err := r.dial(r.serve(MQTT), r.as(lamp)); err == nil {
		t.Error("accepted")
	}
	stranger := newRig(t, nil)
	foreign, _ := stranger.enrol("lamp1")
	r.enrol("lamp1")
	if _, err := r.dial(r.serve(MQTT), r.as(foreign)); err == nil {
		t.Error("another gateway's certificate is accepted")
	}
}

func TestNewestFourCount(t *testing.T) {
	r := newRig(t, nil)
	var all []Issued
	for range maxPerDevice + 2 {
		_, i := r.enrol("lamp1")
		all = append(all, i)
	}
	got := r.Issued("lamp1")
	if len(got) != maxPerDevice || got[0] != all[2] || got[3] != all[5] {
		t.Errorf("%+v", got)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, nil)
	_, good := request(t)
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is the point
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, small)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, odd)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "large": make([]byte, maxRequest+1), "forged": forged, "RSA 1024": weak, "P-224": curve,
		"a certificate": []byte(r.Served().PEM),
	} {
		if _, _, err := r.Issue("lamp1", b, 0); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, days := range []int{-1, MaxDays + 1} {
		if _, _, err := r.Issue("lamp1", good, days); message.ProblemOf(err) == nil {
			t.Errorf("%d days: %v", days, err)
		}
	}
	if _, _, err := r.Issue("lamp1", block.Bytes, 0); err != nil {
		t.Errorf("DER: %v", err)
	}
	if len(r.Issued("")) != 1 {
		t.Error("a refused request left a certificate")
	}
}
