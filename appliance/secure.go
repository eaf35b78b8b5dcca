package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"edgepost/appliance/guard"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/cert"
	"edgepost/appliance/listener/httpapi"
	"edgepost/appliance/listener/mqtt"
	"edgepost/appliance/message"
)

// tlsShare is how many plain connections weigh as much as one over TLS, whose buffers stay as large as the
// largest record was.
const tlsShare = 3

// openCertificates reads or makes the gateway's keys. What the operator configured must be right; keys
// of our own that cannot be read or written cost TLS, not the messages.
func (a *Appliance) openCertificates() error {
	t := &a.cfg.TLS
	further := slices.Concat(a.cfg.HTTP.Hosts, t.Names)
	keeper, err := cert.Open(cert.Options{
		Dir: filepath.Join(a.cfg.Data, "tls"), Now: a.clock.Floored, Floor: a.clock.Built(), Trusted: a.clock.Trusted,
		Names: func() cert.Names { return cert.SystemNames(further) }, Registered: a.core.reg.HasDevice,
		CertFile: t.CertFile, KeyFile: t.KeyFile, Profile: cert.Profile(t.Profile), Log: a.o.Log,
		ACME: cert.ACME{Names: t.ACME.Names, Email: t.ACME.Email, Directory: t.ACME.Directory, CAFile: t.ACME.CAFile},
	})
	if wrong := (*cert.ConfigError)(nil); errors.As(err, &wrong) {
		return err
	}
	if err != nil {
		a.tlsOff = fmt.Sprintf("TLS is not served: %v", err)
		a.o.Log.Warn("TLS is not served", "why", err)
		return nil
	}
	a.core.certs = keeper
	a.background("certificates", keeper.Run)
	return nil
}

// listenSecure opens the HTTPS and the MQTTS port. Their default ports may be another program's, as
// MQTT's may.
func (a *Appliance) listenSecure(web http.Handler, broker *mqtt.Server) error {
	if a.core.certs == nil {
		return nil
	}
	l, err := a.listenTLS("HTTPS", "-https", a.cfg.HTTPS.Addr, a.asked.https)
	if l != nil {
		a.https = l.Addr().String()
		a.secured = newRoom(l, a.secureConnections())
		a.serve("https", a.core.certs.Listener(a.secured, cert.HTTP), a.certified(web), nil)
	}
	if err != nil {
		return err
	}
	l, err = a.listenTLS("MQTTS", "-mqtts", a.cfg.MQTTS.Addr, a.asked.mqtts)
	if l != nil {
		a.mqtts = l.Addr().String()
		a.serveMQTT("mqtts port", a.core.certs.Listener(l, cert.MQTT), broker)
	}
	return err
}

// listenTLS opens one port; nil when it is not wanted, or is another program's and nobody chose it.
func (a *Appliance) listenTLS(what, option, addr string, asked bool) (net.Listener, error) {
	if addr == listenOff {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		err = busy(what, option, addr, err)
		if asked {
			return nil, err
		}
		a.o.Log.Warn("a port with TLS is not served", "port", what, "why", err)
		return nil, nil
	}
	return guard.Sources{WAN: a.cfg.WAN}.Listener(l), nil
}

func (a *Appliance) secureConnections() int {
	if n := a.cfg.Limits.MaxConnections; n > 0 {
		return n
	}
	return max(a.connections()/tlsShare, 16)
}

// certified has requests count as the device's whose certificate their connection began with, as long as the
// certificate counts.
func (a *Appliance) certified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		device, err := a.core.certs.Device(r.TLS)
		if err != nil {
			httpapi.WriteProblem(w, r, a.o.Log, err)
			return
		}
		if device != "" {
			r = r.WithContext(auth.WithDevice(r.Context(), device, cert.Thumbprint(r.TLS.PeerCertificates[0])))
		}
		next.ServeHTTP(w, r)
	})
}

// keys returns the gateway's certificates, or why there are none.
func (k *core) keys() (*cert.Keeper, error) {
	if k.certs == nil {
		return nil, message.Problemf(message.CodeUnavailable, "TLS is not served; edgepost status says why")
	}
	return k.certs, nil
}

// ServedCertificate is what the gateway shows over TLS.
func (k *core) ServedCertificate() (cert.Served, error) {
	c, err := k.keys()
	if err != nil {
		return cert.Served{}, err
	}
	return c.Served(), nil
}

// Certificates lists the certificates of one device, or of all ("").
func (k *core) Certificates(_ context.Context, g *auth.Grant, device string) ([]cert.Issued, error) {
	if err := admin(g); err != nil && !g.OwnsInbox(device) {
		return nil, err
	}
	c, err := k.keys()
	if err != nil {
		return nil, err
	}
	return c.Issued(device), nil
}

// IssueCertificate signs a device's request; the device may ask for itself.
func (k *core) IssueCertificate(ctx context.Context, g *auth.Grant, device string, csr []byte, days int) (pem []byte, made cert.Issued, err error) {
	defer func() { k.audited(ctx, g, "certificate.issue", device, err) }()
	if err := admin(g); err != nil && !g.OwnsInbox(device) {
		return nil, cert.Issued{}, err
	}
	c, err := k.keys()
	if err != nil {
		return nil, cert.Issued{}, err
	}
	if !k.reg.HasDevice(device) {
		return nil, cert.Issued{}, message.Problemf(message.CodeUnknownDevice, "there is no device %.64q", device)
	}
	return c.Issue(device, csr, days)
}

// RevokeCertificates ends a device's certificates, or the one with the serial number, and its connections.
func (k *core) RevokeCertificates(ctx context.Context, g *auth.Grant, device, serial string) (n int, err error) {
	defer func() { k.audited(ctx, g, "certificate.revoke", strings.TrimSpace(device+" "+serial), err) }()
	if err := admin(g); err != nil {
		return 0, err
	}
	c, err := k.keys()
	if err != nil {
		return 0, err
	}
	n, err = c.Revoke(device, serial)
	if err == nil && n == 0 && serial != "" {
		err = message.Problemf(message.CodeNotFound, "device %.64q has no certificate with the serial number %.64q", device, serial)
	}
	return n, err
}

// Authority returns the authority for devices, PEM. With renew it is a new one, and all certificates of devices
// end.
func (k *core) Authority(ctx context.Context, g *auth.Grant, renew bool) (pem []byte, err error) {
	if renew {
		defer func() { k.audited(ctx, g, "certificate.authority", "", err) }()
	}
	if err := admin(g); err != nil {
		return nil, err
	}
	c, err := k.keys()
	if err != nil {
		return nil, err
	}
	if renew {
		if err := c.RenewAuthority(); err != nil {
			return nil, err
		}
	}
	return c.Authority(), nil
}

// forget ends the certificates of a device that is registered no more.
func (k *core) forget(device string) {
	if k.certs != nil {
		_, _ = k.certs.Revoke(device, "") // they do not count any more; what cannot be written is tried again
	}
}
