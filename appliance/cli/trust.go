package cli

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"edgepost/appliance/guard/cert"
)

// trust says which gateway we talk to over TLS: the one whose key has the fingerprint, else one that an
// authority of -cacert vouches for, else of the system's.
func (c *call) trust() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case c.fingerprint != "" && c.cacert != "":
		return nil, usage(c.cmd.name, "-fingerprint and -cacert say the same in two ways; give one of them")
	case c.fingerprint != "":
		want := strings.Replace(c.fingerprint, "sha256//", "sha256/", 1) // as curl writes it
		sum, ok := strings.CutPrefix(want, "sha256/")
		if b, err := base64.StdEncoding.DecodeString(sum); !ok || err != nil || len(b) != 32 {
			return nil, usage(c.cmd.name, "%q is not a fingerprint; edgepost fingerprint prints it on the gateway: sha256/ and 44 signs", clip(c.fingerprint))
		}
		t.InsecureSkipVerify = true //nolint:gosec // the key is checked instead of the certificate
		t.VerifyConnection = func(s tls.ConnectionState) error {
			got := cert.Fingerprint(s.PeerCertificates[0])
			if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
				return &mistrust{fmt.Sprintf("its key has another fingerprint: %s", got)}
			}
			return nil
		}
	case c.cacert != "":
		text, err := os.ReadFile(c.cacert)
		if err != nil {
			return nil, usage(c.cmd.name, "-cacert: %v", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, usage(c.cmd.name, "-cacert: %s has no certificate in PEM", c.cacert)
		}
	}
	return t, nil
}

// mistrust is a gateway that has another key than was expected.
type mistrust struct{ text string }

func (m *mistrust) Error() string { return m.text }

// mistrusted words an error of the certificate; nil when it is about something else.
func (cl *client) mistrusted(err error) *failure {
	next := "its fingerprint, by edgepost fingerprint on the gateway, goes to -fingerprint; or its certificate, by edgepost cert show -pem there, to -cacert"
	if bad := (*tls.CertificateVerificationError)(nil); errors.As(err, &bad) {
		reason := bad.Err.Error()
		if len(bad.UnverifiedCertificates) > 0 {
			reason += "; it shows " + cert.Fingerprint(bad.UnverifiedCertificates[0])
		}
		return &failure{exitRefused, fmt.Sprintf("the certificate of %s is not trusted: %s", cl.where, reason), next}
	}
	if m := (*mistrust)(nil); errors.As(err, &m) {
		return &failure{exitRefused, fmt.Sprintf("%s is not the gateway of -fingerprint: %s", cl.where, m.text), ""}
	}
	return nil
}
