package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// secure is a gateway whose TLS ports are known, and its certificate in a file.
type secure struct {
	*broker
	https, mqtts, ca string
}

func startSecure(t *testing.T, args ...string) *secure {
	t.Helper()
	s := &secure{https: freeAddr(t), mqtts: freeAddr(t)}
	s.broker = newBroker(t, append([]string{"-https", s.https, "-mqtts", s.mqtts}, args...)...)
	s.ca = filepath.Join(t.TempDir(), "gateway.pem")
	save(t, s.ca, s.must(nil, "cert", "show", "-pem"))
	return s
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// client is mosquitto_pub or mosquitto_sub over TLS.
func (s *secure) client(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	name = "mosquitto_" + name
	if _, err := exec.LookPath(name); err != nil {
		cannot(t, name+" is not installed; scripts/setup does it")
	}
	args = append([]string{"60", name, "-h", "localhost", "-p", portOf(s.mqtts), "--cafile", s.ca}, args...)
	out, err := exec.Command("timeout", args...).CombinedOutput()
	return string(out), err
}

// enrol makes a key and a certificate of the device, with the real openssl.
func (s *secure) enrol(t *testing.T, device string) (key, cert string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		cannot(t, "openssl is not installed; scripts/setup does it")
	}
	base := filepath.Join(t.TempDir(), device)
	key, cert = base+".key", base+".pem"
	out, err := exec.Command("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", key, "-subj", "/CN="+device, "-out", base+".csr").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	save(t, cert, s.must(nil, "device", "cert", device, "-csr", base+".csr"))
	return key, cert
}

// TestTLSClients are the lines of the README: curl, mosquitto, mqtt.js and our own command line over TLS.
func TestTLSClients(t *testing.T) {
	s := startSecure(t)
	tok, app := s.addDevice("lamp1"), s.addFreeKey()
	for flag, want := range map[string]string{"--http1.1": "1.1 200", "--http2": "2 200"} {
		if out := curl(t, flag, "--cacert", s.ca, "-w", " %{http_version} %{http_code}", "https://localhost:"+portOf(s.https)+"/healthz"); !strings.HasSuffix(out, want) {
			t.Errorf("curl %s: %q", flag, out)
		}
	}
	if out, err := s.client(t, "pub", "-u", "app", "-P", app, "-q", "1", "-t", "device/lamp1/in/set", "-m", "on"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := s.client(t, "sub", "-u", "lamp1", "-P", tok, "-q", "1", "-t", "device/lamp1/in/#", "-C", "1", "-v"); err != nil || out != "device/lamp1/in/set on\n" {
		t.Errorf("%v %q", err, out)
	}
	at := "https://localhost:" + portOf(s.https)
	print := strings.TrimSpace(s.must(nil, "fingerprint"))
	for _, trust := range [][]string{{"-fingerprint", print}, {"-cacert", s.ca}} {
		if r := runIn(t, "", append([]string{"send", "device/lamp1/in/set", "off", "-url", at, "-token", app}, trust...)...); r.code != 0 {
			t.Errorf("send %v: %+v", trust, r)
		}
		if r := runIn(t, "", append([]string{"listen", "-device", "lamp1", "-n", "1", "-url", at, "-token", tok}, trust...)...); r.code != 0 || r.out != "device/lamp1/in/set off\n" {
			t.Errorf("listen %v: %+v", trust, r)
		}
	}
	other := "sha256/" + strings.Repeat("A", 43) + "="
	for _, trust := range [][]string{{}, {"-fingerprint", other}} {
		if r := runIn(t, "", append([]string{"status", "-url", at, "-token", app}, trust...)...); r.code != 4 || !strings.Contains(r.errout, print) {
			t.Errorf("status %v: %+v", trust, r)
		}
	}
	s.kill()
	s.start()
	if again := strings.TrimSpace(s.must(nil, "fingerprint")); again != print {
		t.Errorf("the fingerprint was %s and is %s", print, again)
	}
	if _, err := os.Stat("mqtt/node_modules/mqtt"); err != nil {
		cannot(t, "the npm package mqtt is not installed; scripts/setup does it")
	}
	t.Setenv("NODE_EXTRA_CA_CERTS", s.ca)
	s.device(t, []string{"node", "mqtt/client.js", "wss://localhost:" + portOf(s.https) + "/mqtt"}, "5", true)
}

// TestDeviceCertificates: a certificate is enough, it goes before a password, and revoking it ends everything
// at once, resumed sessions too.
func TestDeviceCertificates(t *testing.T) {
	s := startSecure(t)
	s.addDevice("lamp1")
	other := s.addDevice("lamp2")
	key, cert := s.enrol(t, "lamp1")
	mine := []string{"--cert", cert, "--key", key}
	if out, err := s.client(t, "pub", append(mine, "-q", "1", "-t", "device/lamp1/out/x", "-m", "1")...); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := s.client(t, "pub", append(mine, "-u", "lamp2", "-P", other, "-q", "1", "-t", "device/lamp2/out/x", "-m", "1")...); err == nil {
		t.Errorf("lamp2's password over lamp1's certificate: %q", out)
	}
	at := "https://localhost:" + portOf(s.https)
	web := []string{"--cacert", s.ca, "--cert", cert, "--key", key}
	if out := curl(t, append(web, "-w", "%{http_code}", at+"/v1/devices/lamp1/messages")...); !strings.HasSuffix(out, "200") {
		t.Errorf("curl: %q", out)
	}
	if out := curl(t, append(web, "-H", "Authorization: Bearer "+other, "-w", "%{http_code}", at+"/v1/devices/lamp2/messages")...); !strings.HasSuffix(out, "401") {
		t.Errorf("lamp2's token over lamp1's certificate: %q", out)
	}
	session := filepath.Join(t.TempDir(), "session")
	shake := func(args ...string) string {
		cmd := exec.Command("timeout", append([]string{"30", "openssl", "s_client", "-connect", s.https, "-cert", cert, "-key", key, "-CAfile", s.ca, "-ign_eof"}, args...)...)
		cmd.Stdin = strings.NewReader("GET /v1/devices/lamp1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		out, _ := cmd.CombinedOutput() // its exit code tells less than its words
		return string(out)
	}
	if out := shake("-sess_out", session); !strings.Contains(out, "200 OK") {
		t.Fatalf("openssl: %s", out)
	}
	if out := shake("-sess_in", session); !strings.Contains(out, "Reused, ") || !strings.Contains(out, "200 OK") {
		t.Fatalf("nothing was resumed: %s", out)
	}
	lines, ended := background(t, "curl", append([]string{"-sSN", "--max-time", "60"}, append(web, at+"/v1/stream?topic=device/lamp1/in/%23")...)...)
	line(t, lines) // the stream's first comment
	s.must(nil, "cert", "revoke", "lamp1")
	for range lines { // it ends
	}
	if err := <-ended; err != nil && strings.Contains(err.Error(), "exit status 28") { // curl's own time limit
		t.Error("an event stream goes on")
	}
	for _, args := range [][]string{{"-sess_in", session}, {}} {
		if out := shake(args...); strings.Contains(out, "200 OK") {
			t.Errorf("a revoked certificate: %v %s", args, out)
		}
	}
	if out, err := s.client(t, "pub", append(mine, "-q", "1", "-t", "device/lamp1/out/x", "-m", "2")...); err == nil {
		t.Errorf("a revoked certificate: %s", out)
	}
	key, cert = s.enrol(t, "lamp1")
	if out := shake(); !strings.Contains(out, "200 OK") {
		t.Errorf("its next certificate: %s", out)
	}
	s.must(nil, "device", "rm", "lamp1")
	s.addDevice("lamp1") // another device of the same name
	if out := shake(); strings.Contains(out, "200 OK") {
		t.Errorf("the certificate of a removed device: %s", out)
	}
}

// ownPair makes a self-signed certificate for the names and writes it and its key.
func ownPair(t *testing.T, cert, key string, names ...string) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	save(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	save(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shown is the certificate that a server shows for the name.
func shown(addr, name string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}).DialContext(ctx, "tcp", addr) //nolint:gosec // it is looked at
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// TestOwnCertificateIsReadAgain changes the files under a running gateway.
func TestOwnCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key, config := filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key"), filepath.Join(dir, "edgepost.toml")
	first := ownPair(t, cert, key, "gw.example")
	save(t, config, fmt.Sprintf("[tls]\ncert_file = %q\nkey_file = %q\n", cert, key))
	s := startSecure(t, "-config", config)
	if c, err := shown(s.https, "gw.example"); err != nil || !c.Equal(first) {
		t.Fatalf("not the own certificate: %v", err)
	}
	save(t, cert, "broken")
	within(t, 30*time.Second, "no warning about the broken file", func() bool { return strings.Contains(s.must(nil, "status"), "goes on") })
	if c, err := shown(s.mqtts, "gw.example"); err != nil || !c.Equal(first) {
		t.Errorf("a broken file: %v", err)
	}
	second := ownPair(t, cert, key, "gw.example")
	within(t, 30*time.Second, "the new certificate is not shown", func() bool {
		c, err := shown(s.https, "gw.example")
		return err == nil && c.Equal(second)
	})
	s.stop()
	save(t, cert, "broken")
	s.wantNoStart(t, 1, "own.pem")
}

// pebble runs the ACME test server of Debian. The challenges reach the given ports.
func pebble(t *testing.T, http01, tlsALPN string) (directory, ca string) {
	t.Helper()
	for _, name := range []string{"pebble", "pebble-challtestsrv"} {
		if _, err := exec.LookPath(name); err != nil {
			cannot(t, name+" is not installed; scripts/setup does it")
		}
	}
	dir := t.TempDir()
	cert, key, config := filepath.Join(dir, "pebble.pem"), filepath.Join(dir, "pebble.key"), filepath.Join(dir, "pebble.json")
	ownPair(t, cert, key, "localhost")
	addr, dns := freeAddr(t), freeAddr(t)
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": addr, "managementListenAddress": freeAddr(t), "certificate": cert, "privateKey": key,
		"httpPort": json.Number(portOf(http01)), "tlsPort": json.Number(portOf(tlsALPN)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	save(t, config, string(text))
	run(t, "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", dns, "-management", freeAddr(t), "-http01", "", "-https01", "", "-tlsalpn01", "")
	run(t, "pebble", "-config", config, "-dnsserver", dns)
	within(t, 30*time.Second, "pebble does not answer", func() bool { _, err := shown(addr, "localhost"); return err == nil })
	return "https://" + addr + "/dir", cert
}

// run runs a server until the test ends.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, tail(out.String(), 4000))
		}
	})
}

// TestACME gets certificates from pebble: proved over HTTP, and where that is not reachable over TLS.
func TestACME(t *testing.T) {
	for _, kind := range []string{"http-01", "tls-alpn-01"} {
		s := &secure{https: freeAddr(t)}
		s.gatewayFor(t)
		http01 := s.addr
		if kind != "http-01" {
			http01 = freeAddr(t) // nobody there
		}
		directory, ca := pebble(t, http01, s.https)
		config := filepath.Join(t.TempDir(), "edgepost.toml")
		save(t, config, fmt.Sprintf("[tls.acme]\nnames = [\"gw.example\", \"www.gw.example\"]\nemail = \"ops@gw.example\"\ndirectory = %q\nca_file = %q\n", directory, ca))
		s.args = append(s.args, "-config", config)
		s.start()
		issued := func() bool {
			c, err := shown(s.https, "gw.example")
			return err == nil && strings.HasPrefix(c.Issuer.CommonName, "Pebble") && c.VerifyHostname("www.gw.example") == nil
		}
		within(t, 90*time.Second, kind+": no certificate was issued", issued)
		if c, err := shown(s.https, "localhost"); err != nil || strings.HasPrefix(c.Issuer.CommonName, "Pebble") {
			t.Errorf("%s: another name: %v", kind, err)
		}
		s.kill()
		s.start()
		if !issued() {
			t.Errorf("%s: the certificate is forgotten after a restart", kind)
		}
	}
}

// gatewayFor makes the gateway without starting it.
func (s *secure) gatewayFor(t *testing.T) {
	t.Helper()
	s.broker = &broker{gateway: newGateway(t, "-https", s.https)}
}
