package cert

import (
	"crypto/tls"
	"fmt"
	"os"
	"time"
)

// pair is a certificate of the operator's own, from two files that may change at any time.
type pair struct {
	certFile, keyFile string
	cert              *tls.Certificate // the newest good one
	seen              [2]stamp         // of the files, when they were last read
	err               error            // of the newest reading; nil: cert is what the files say
}

// stamp tells versions of a file apart.
type stamp struct {
	size int64
	mod  time.Time
}

func stampOf(path string) stamp {
	info, err := os.Stat(path) // follows the links that ACME clients and Kubernetes swap
	if err != nil {
		return stamp{}
	}
	return stamp{info.Size(), info.ModTime()}
}

// reload reads the files if they changed since the last time. A pair that is broken, or only half written,
// changes nothing: it is read again at the next change.
func (p *pair) reload() (changed bool, err error) {
	now := [2]stamp{stampOf(p.certFile), stampOf(p.keyFile)}
	if now == p.seen {
		return false, nil
	}
	p.seen = now
	c, err := p.read()
	p.err = err
	if err != nil {
		return false, err
	}
	p.cert = c
	return true, nil
}

func (p *pair) read() (*tls.Certificate, error) {
	chain, err := readFile(p.certFile)
	if err != nil {
		return nil, fmt.Errorf("read tls.cert_file: %w", err)
	}
	key, err := readFile(p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read tls.key_file: %w", err)
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are not a certificate and its key in PEM: %w", p.certFile, p.keyFile, err)
	}
	if err := goodKey(c.Leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("the certificate in %s cannot be used: %w", p.certFile, err)
	}
	return &c, nil
}
