package httpapi

import (
	"net/http"

	"edgepost/appliance/guard/cert"
	"edgepost/appliance/message"
)

func (a *api) showCertificate(c *call) error {
	served, err := a.core.ServedCertificate()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &served)
}

func (a *api) listCertificates(c *call) error {
	list, err := a.core.Certificates(c.r.Context(), c.grant, c.query.Get("device"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]cert.Issued{"certificates": orEmpty(list)})
}

func (a *api) issueCertificate(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	var b struct {
		CSR  string `json:"csr"`
		Days int    `json:"days"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	text, issued, err := a.core.IssueCertificate(c.r.Context(), c.grant, c.params[0], []byte(b.CSR), b.Days)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, &struct {
		cert.Issued
		PEM string `json:"pem"`
	}{issued, string(text)})
}

func (a *api) revokeCertificates(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	n, err := a.core.RevokeCertificates(c.r.Context(), c.grant, c.params[0], c.query.Get("serial"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]int{"revoked": n})
}

func (a *api) showAuthority(c *call) error { return a.authority(c, false) }

func (a *api) renewAuthority(c *call) error { return a.authority(c, true) }

func (a *api) authority(c *call, renew bool) error {
	text, err := a.core.Authority(c.r.Context(), c.grant, renew)
	if err != nil {
		return err
	}
	if text == nil {
		return message.Problemf(message.CodeNotFound, "there is no authority for devices yet; the first certificate makes it")
	}
	return c.json(http.StatusOK, map[string]string{"pem": string(text)})
}
