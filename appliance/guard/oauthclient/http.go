package oauthclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"
)

// MaxAnswer is the most bytes of an answer's body that are read.
const MaxAnswer = 64 << 10

// Timeout is how long one request may take, from the connection to the answer's last byte.
const Timeout = 10 * time.Second

// NewHTTP makes a client for authorization servers. caFile is a PEM file of the authorities that may vouch
// for them, "" the system's; now is the time for their certificates, nil time.Now. It keeps no connections:
// such servers are asked rarely.
func NewHTTP(caFile string, now func() time.Time) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Time: now}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s has no certificate in PEM form", caFile)
		}
	}
	return &http.Client{
		Timeout: Timeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// CheckURL says what is wrong with the address of an authorization server's endpoint; nil when it may be asked.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%.80q is not an address such as https://idp.example/token", address)
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%.80q is not an https address; secrets and tokens would travel in the open", address)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// ReadAnswer reads the body of an answer, of at most [MaxAnswer] bytes.
func ReadAnswer(res *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1))
	if err == nil && len(b) > MaxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", MaxAnswer)
	}
	return b, err
}

// temporary reports whether a request that failed so may succeed a little later.
func temporary(err error) bool {
	switch e := err.(type) { //nolint:errorlint // only what do returns itself
	case *Error:
		return e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
	case *url.Error:
		_, certificate := e.Err.(*tls.CertificateVerificationError) //nolint:errorlint // as net/http wraps it
		return !certificate
	case net.Error:
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF)
}
