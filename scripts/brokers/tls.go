package brokers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"time"
)

// Authority is a file with the certificate that the broker's TLS ports show; it is its own authority, for
// 127.0.0.1 and localhost.
func (b *Broker) Authority() string { return b.file("ca.pem") }

// Client is a certificate for [User], by that authority, and its key.
func (b *Broker) Client() (cert, key string) { return b.file("client.pem"), b.file("client.key") }

// certify writes a certificate for the broker, and both it and its key into one file as the brokers like it; and one
// for its clients.
func (b *Broker) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // what it may vouch for, too
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public := block("CERTIFICATE", der)
	return errors.Join(b.write("ca.pem", public), b.write("server.pem", block("PRIVATE KEY", secret)+public), b.certifyClient(cert, key))
}

func (b *Broker) certifyClient(authority *x509.Certificate, by *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: User}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, authority, key.Public(), by)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(b.write("client.pem", block("CERTIFICATE", der)), b.write("client.key", block("PRIVATE KEY", secret)))
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// keystore is a program that makes what Java wants of server.pem: its own key, and whom to trust.
func keystore() program {
	return program{args: []string{"openssl", "pkcs12", "-export", "-in", "server.pem", "-out", "server.p12", "-passout", "pass:" + Password}}
}
