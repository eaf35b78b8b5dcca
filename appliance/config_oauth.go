package appliance

import (
	"net/url"
	"time"

	"edgepost/appliance/guard/oauth"
)

// OAuthConfig is section [oauth]: the gateway's own issuer of access tokens for its devices and programs.
type OAuthConfig struct {
	Issuer   string        `key:"issuer"`   // the claims iss and aud; default https:// with the machine's name and the port of [https]
	Lifetime time.Duration `key:"lifetime"` // of a token; default 15 min
	Rotation time.Duration `key:"rotation"` // how long a key signs; default 90 days
}

func (k *checker) oauth(c *Config) {
	o := &c.OAuth
	if o.Issuer != "" {
		u, err := url.Parse(o.Issuer)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(o.Issuer) > 512 {
			k.mistake("oauth.issuer", "%.80q is not an issuer (RFC 8414); write an https address such as \"https://gateway.local:8448\"", o.Issuer)
		}
	}
	for i := range c.Issuers {
		if o.Issuer != "" && c.Issuers[i].Issuer == o.Issuer {
			k.mistake(at("issuer", i)+".iss", "%.80q is the gateway's own issuer ([oauth] issuer); a token must belong to one", o.Issuer)
		}
	}
	k.span("oauth.lifetime", o.Lifetime, time.Second, oauth.MaxLifetime)
	k.span("oauth.rotation", o.Rotation, 24*time.Hour, 10*365*24*time.Hour)
}
