package bridge

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecret bounds the files with passwords, tokens and certificates.
const maxSecret = 64 << 10

// Secret returns the password or token, read again each time so that it can be renewed in place; "" when there is
// none. Errors are of class Configuration.
func (c *Config) Secret() (string, error) {
	for _, f := range []struct{ key, path string }{{"password_file", c.PasswordFile}, {"token_file", c.TokenFile}} {
		if f.path == "" {
			continue
		}
		s, err := ReadSecret(f.path)
		if err != nil {
			return "", Errorf(Configuration, "%s: %w", f.key, err)
		}
		return s, nil
	}
	return "", nil
}

// ReadSecret reads a file with a secret of at most 64 KiB, without the line's end.
func ReadSecret(path string) (string, error) {
	b, err := readFile(path)
	return strings.TrimRight(string(b), "\r\n"), err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(b) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxSecret)
	}
	return b, err
}

// TLS returns how to speak TLS with a host, files read again each time. Errors are of class Configuration.
func (c *Config) TLS(host string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.ServerName != "" {
		t.ServerName = c.ServerName
	}
	if c.CAFile != "" {
		b, err := readFile(c.CAFile)
		if err != nil {
			return nil, Errorf(Configuration, "ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, Errorf(Configuration, "ca_file: there is no certificate in %s", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, Errorf(Configuration, "cert_file, key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
