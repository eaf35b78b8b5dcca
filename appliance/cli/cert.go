package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"edgepost/appliance"
)

// servedJSON is what the gateway shows over TLS.
type servedJSON struct {
	Source      string    `json:"source"`
	Fingerprint string    `json:"fingerprint"`
	Names       []string  `json:"names"`
	From        time.Time `json:"not_before"`
	Until       time.Time `json:"not_after"`
	PEM         string    `json:"pem"`
	ACME        *struct {
		Fingerprint string    `json:"fingerprint"`
		Names       []string  `json:"names"`
		Until       time.Time `json:"not_after"`
	} `json:"acme"`
}

type issuedJSON struct {
	Device string    `json:"device"`
	Serial string    `json:"serial"`
	Until  time.Time `json:"until"`
	PEM    string    `json:"pem"`
}

func certCommands() []*command {
	return []*command{certFingerprint(), certShow(), certList(), certRevoke(), certAuthority()}
}

func certFingerprint() *command {
	c := &command{name: "fingerprint", short: "print the fingerprint of the key that the gateway shows over TLS", flags: newFlags()}
	c.long = `
From elsewhere, -url https://GATEWAY:8448 with -fingerprint and this value trusts that gateway and nobody else. It is
the SHA-256 of the public key, and stays when the self-signed certificate is made anew. curl takes it as
--pinnedpubkey sha256//… with a second slash.`
	c.run = func(ctx context.Context, call *call) error {
		var s servedJSON
		if _, err := call.get(ctx, "/v1/certificate", &s); err != nil {
			return err
		}
		if call.json {
			return call.printValue(map[string]string{"fingerprint": s.Fingerprint})
		}
		return call.print(s.Fingerprint + "\n")
	}
	return c
}

func certShow() *command {
	var pem bool
	c := &command{name: "cert show", short: "show the certificate that the gateway shows over TLS", flags: newFlags()}
	c.long = `
With -pem it prints the certificate itself; a self-signed one is what clients take as their --cacert or --cafile.`
	c.flags.BoolVar(&pem, "pem", false, "print the certificate in PEM")
	c.run = func(ctx context.Context, call *call) error {
		var s servedJSON
		body, err := call.get(ctx, "/v1/certificate", &s)
		switch {
		case err != nil:
			return err
		case pem:
			return call.print(s.PEM)
		case call.json:
			return call.printJSON(body)
		}
		g := &grid{}
		g.row("source", s.Source)
		g.row("fingerprint", s.Fingerprint)
		g.row("names", strings.Join(s.Names, ", "))
		g.row("valid", stamp(s.From)+" to "+stamp(s.Until))
		if s.ACME != nil {
			until := "not issued yet"
			if !s.ACME.Until.IsZero() {
				until = "valid to " + stamp(s.ACME.Until)
			}
			g.row("acme", strings.Join(s.ACME.Names, ", ")+" "+until)
		}
		return call.printGrid(g)
	}
	return c
}

func certList() *command {
	c := &command{name: "cert list", args: "[DEVICE]", short: "list the certificates of devices", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		path := "/v1/certificates"
		if len(call.args) > 0 {
			path += "?device=" + url.QueryEscape(call.args[0])
		}
		docs, err := call.list(ctx, path, "certificates")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		g := &grid{}
		g.row("DEVICE", "SERIAL", "UNTIL")
		return printRows(call, g, docs, func(i issuedJSON) { g.row(i.Device, i.Serial, stamp(i.Until)) })
	}
	return c
}

func certRevoke() *command {
	c := &command{name: "cert revoke", args: "DEVICE [SERIAL]", short: "end the certificates of a device, or one, and its connections", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		path := "/v1/devices/" + url.PathEscape(call.args[0]) + "/certificate"
		if len(call.args) > 1 {
			path += "?serial=" + url.QueryEscape(call.args[1])
		}
		cl, err := call.client()
		if err != nil {
			return err
		}
		var done struct{ Revoked int }
		body, err := cl.call(ctx, http.MethodDelete, path, nil, &done)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		call.note("%d revoked", done.Revoked)
		return nil
	}
	return c
}

func certAuthority() *command {
	var renew bool
	c := &command{name: "cert authority", short: "print the certificate of the authority that signs for devices", flags: newFlags()}
	c.flags.BoolVar(&renew, "renew", false, "make a new one first; all certificates of devices end")
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		method := http.MethodGet
		if renew {
			method = http.MethodPost
		}
		var a struct{ PEM string }
		body, err := cl.call(ctx, method, "/v1/authority", nil, &a)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		return call.print(a.PEM)
	}
	return c
}

// maxRequestFile is far above any certificate request.
const maxRequestFile = 64 << 10

func deviceCert() *command {
	var csr string
	var valid time.Duration
	c := &command{name: "device cert", args: "ID", short: "sign a certificate request of a device and print the certificate", flags: newFlags()}
	c.long = `
The device's key stays where it is: make it and the request there, for instance with
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout lamp1.key -subj /CN=lamp1 -out lamp1.csr
With the certificate it needs no token over TLS. The newest four of a device count.`
	c.flags.StringVar(&csr, "csr", "", "read the request (PKCS #10, PEM) from `FILE`; - is standard input")
	c.flags.Var(span{&valid}, "valid", "for `DURATION` such as 30d (default 825d)")
	c.run = func(ctx context.Context, call *call) error {
		if csr == "" {
			return usage(c.name, "%s: give the request with -csr FILE", c.name)
		}
		text, err := call.readRequest(csr)
		if err != nil {
			return err
		}
		const day = 24 * time.Hour
		if valid%day != 0 {
			return usage(c.name, "%s: flag -valid: %s is not a number of days", c.name, appliance.FormatDuration(valid))
		}
		cl, err := call.client()
		if err != nil {
			return err
		}
		var made issuedJSON
		ask := map[string]any{"csr": text, "days": int(valid / day)}
		body, err := cl.call(ctx, http.MethodPost, "/v1/devices/"+url.PathEscape(call.args[0])+"/certificate", ask, &made)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		call.note("device %s may use this certificate until %s", made.Device, stamp(made.Until))
		return call.print(made.PEM)
	}
	return c
}

func (c *call) readRequest(name string) (string, error) {
	in := c.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read request: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxRequestFile))
	if err != nil {
		return "", fmt.Errorf("read request: %w", err)
	}
	return string(b), nil
}
