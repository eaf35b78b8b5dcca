package appliance

import (
	"net/netip"
	"net/url"
	"strings"

	"edgepost/appliance/guard/cert"
)

// HTTPSConfig is section [https]: what [http] serves, over TLS.
type HTTPSConfig struct {
	Addr string `key:"addr"` // host:port to listen on, or "off"; default ":8448"
}

// MQTTSConfig is section [mqtts]: MQTT over TLS.
type MQTTSConfig struct {
	Addr string `key:"addr"` // host:port to listen on, or "off"; default ":8883"
}

// TLSConfig is section [tls]: what both ports show. Without files of one's own it is a self-signed
// certificate, see package cert.
type TLSConfig struct {
	Profile  string     `key:"profile"`   // compatible (1.2 with AEAD, and 1.3) or modern (1.3); default compatible
	CertFile string     `key:"cert_file"` // own certificate chain, PEM; read again when it changes
	KeyFile  string     `key:"key_file"`  // and its key
	Names    []string   `key:"names"`     // names and addresses in the self-signed certificate beside the machine's own
	ACME     ACMEConfig `key:"acme"`
}

// ACMEConfig is section [tls.acme]: certificates for names that resolve publicly. Without names it is not
// used.
type ACMEConfig struct {
	Names     []string `key:"names"`     // host names, all in one certificate
	Email     string   `key:"email"`     // where the authority writes to; may be empty
	Directory string   `key:"directory"` // URL of the authority; default Let's Encrypt
	CAFile    string   `key:"ca_file"`   // what the authority's own certificate is checked with, PEM; "": the system's
}

// DefaultACMEDirectory is Let's Encrypt's.
const DefaultACMEDirectory = "https://acme-v02.api.letsencrypt.org/directory"

// listenOff is the address of a port that is not opened.
const listenOff = "off"

func (k *checker) secure(c *Config) {
	for key, addr := range map[string]string{"https.addr": c.HTTPS.Addr, "mqtts.addr": c.MQTTS.Addr} {
		if addr != listenOff {
			k.addr(key, addr)
		}
	}
	t := &c.TLS
	if p := cert.Profile(t.Profile); p != "" && p != cert.Compatible && p != cert.Modern {
		k.mistake("tls.profile", "%.40q is not a profile; it may be compatible (TLS 1.2 with AEAD, and 1.3) or modern (1.3 only)", t.Profile)
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		key, other := "tls.cert_file", "key_file"
		if t.CertFile == "" {
			key, other = "tls.key_file", "cert_file"
		}
		k.mistake(key, "it needs %s beside it", other)
	}
	for i, name := range t.Names {
		if _, err := netip.ParseAddr(name); err != nil && !hostName(name) {
			k.mistake(at("tls.names", i), "%.80q is neither a host name nor an address; write one such as \"gateway.example\" or \"192.168.1.1\"", name)
		}
	}
	k.acme(&t.ACME)
}

func (k *checker) acme(a *ACMEConfig) {
	if len(a.Names) > 0 && !cert.HasACME {
		k.mistake("tls.acme", "ACME is not compiled into this program; remove the section")
		return
	}
	for i, name := range a.Names {
		if _, err := netip.ParseAddr(name); err == nil || !hostName(name) {
			k.mistake(at("tls.acme.names", i), "%.80q is not a host name that an authority could look up; write one such as \"gateway.example\"", name)
		}
	}
	if a.Email != "" && (strings.Count(a.Email, "@") != 1 || strings.ContainsAny(a.Email, " \t<>,:") || strings.Trim(a.Email, "@") != a.Email) {
		k.mistake("tls.acme.email", "%.80q is not a mail address", a.Email)
	}
	if a.Directory != "" {
		if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			k.mistake("tls.acme.directory", "%.120q is not the https:// address of an ACME directory", a.Directory)
		}
	}
	if a.CAFile != "" && len(a.Names) == 0 {
		k.mistake("tls.acme.ca_file", "it means nothing without names")
	}
}

// hostName reports whether s is one, in lower case.
func hostName(s string) bool {
	return s != "" && len(s) <= 253 && s[0] != '.' && s[0] != '-' && !strings.Contains(s, "..") &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}
