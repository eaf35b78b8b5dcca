package appliance

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"edgepost/appliance/guard/cipher"
	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/guard/oauthclient"
	"edgepost/appliance/message"
)

// IssuerConfig is one [[issuer]]: an authority whose JSON Web Tokens are accepted as bearer tokens over
// HTTP and WebSocket and as MQTT passwords. Its keys come from one of the three sources, or it is asked about each token.
type IssuerConfig struct {
	Name        string        `key:"name"`               // in principals: jwt/<name>/<subject>
	Issuer      string        `key:"iss"`                // what the claim iss must be, exactly
	Audience    []string      `key:"aud"`                // the claim aud must name one of them
	KeysURL     string        `key:"jwks_url"`           // https address of its key set
	KeysFile    string        `key:"jwks_file"`          // or a file with it, read again when it changes
	SecretFile  string        `key:"secret_file"`        // or a file with the secret of HS256, 32 bytes at least
	AskURL      string        `key:"introspection_url"`  // or https address where the issuer says what a token is worth (RFC 7662)
	ClientID    string        `key:"client_id"`          // under which it knows the gateway there
	ClientFile  string        `key:"client_secret_file"` // file with the secret for it
	CAFile      string        `key:"ca_file"`            // PEM file of who vouches for jwks_url or introspection_url; default: the system's authorities
	Algorithms  []string      `key:"algs"`               // default EdDSA, ES256, RS256; with a secret HS256
	Types       []string      `key:"typ"`                // what the header typ may be, "" for none; default at+jwt, JWT
	Leeway      time.Duration `key:"leeway"`             // for clocks that differ; default 1 min
	MaxStale    time.Duration `key:"max_stale"`          // how long its keys serve while jwks_url cannot be reached; default 7 days
	DeviceClaim string        `key:"device_claim"`       // the claim that names the registered device a token stands for; default: none
	AdminScope  string        `key:"admin_scope"`        // the scope whose tokens may administer; default: none may
}

// DefaultLeeway is how far an issuer's clock may be from ours.
const DefaultLeeway = time.Minute

// withDefaults returns the issuer with every zero field that has a fixed default set.
func (i IssuerConfig) withDefaults() IssuerConfig {
	or(&i.Leeway, DefaultLeeway)
	or(&i.MaxStale, jwt.DefaultMaxStale)
	if i.Algorithms == nil {
		if i.Algorithms = []string{jwt.EdDSA, jwt.ES256, jwt.RS256}; i.SecretFile != "" {
			i.Algorithms = []string{jwt.HS256}
		}
	}
	if i.Types == nil {
		i.Types = []string{"at+jwt", "JWT"}
	}
	return i
}

func (k *checker) issuers(list []IssuerConfig) {
	names, urls := make(map[string]bool), make(map[string]bool)
	for n := range list {
		i, key := &list[n], at("issuer", n)
		if err := message.CheckName("issuer name", i.Name); err != nil {
			k.mistake(key+".name", "%s", message.ProblemOf(err).Detail)
		} else if names[i.Name] {
			k.mistake(key+".name", "%q is taken by an earlier [[issuer]]; each needs its own name", i.Name)
		}
		switch {
		case i.Issuer == "" || len(i.Issuer) > 512:
			k.mistake(key+".iss", "it is missing or too long; write the issuer's iss exactly as its tokens have it")
		case urls[i.Issuer]:
			k.mistake(key+".iss", "%.80q is an earlier [[issuer]]'s; a token must belong to one", i.Issuer)
		}
		names[i.Name], urls[i.Issuer] = true, true
		if len(i.Audience) == 0 || slices.Contains(i.Audience, "") {
			k.mistake(key+".aud", "it is missing; write what the issuer puts into aud for this gateway, such as [\"edgepost\"]")
		}
		k.keySource(key, i)
		k.algorithms(key+".algs", i)
		k.span(key+".leeway", i.Leeway, time.Second, 10*time.Minute)
		k.span(key+".max_stale", i.MaxStale, time.Minute, 365*24*time.Hour)
	}
}

func (k *checker) keySource(key string, i *IssuerConfig) {
	sources := 0
	for _, s := range []string{i.KeysURL, i.KeysFile, i.SecretFile, i.AskURL} {
		if s != "" {
			sources++
		}
	}
	if sources != 1 {
		k.mistake(key+".jwks_url", "exactly one of jwks_url, jwks_file, secret_file and introspection_url must say where the issuer's keys come from")
	}
	if i.KeysURL != "" {
		if u, err := url.Parse(i.KeysURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			k.mistake(key+".jwks_url", "%.80q is not an https address; keys that come another way could be anybody's", i.KeysURL)
		}
	}
	if i.CAFile != "" && i.KeysURL == "" && i.AskURL == "" {
		k.mistake(key+".ca_file", "it vouches for jwks_url or introspection_url, which are not there")
	}
	if i.AskURL != "" {
		if err := oauthclient.CheckURL(i.AskURL); err != nil {
			k.mistake(key+".introspection_url", "%v", err)
		}
	}
	for _, part := range []struct{ name, value string }{{"client_id", i.ClientID}, {"client_secret_file", i.ClientFile}} {
		if (part.value == "") != (i.AskURL == "") {
			k.mistake(key+"."+part.name, "introspection_url, client_id and client_secret_file belong together: nobody answers a stranger")
		}
	}
}

func (k *checker) algorithms(key string, i *IssuerConfig) {
	for n, a := range i.Algorithms {
		switch {
		case strings.EqualFold(a, "none"):
			k.mistake(at(key, n), "a token without a signature proves nothing; there are EdDSA, ES256 and RS256")
		case a == jwt.HS256:
			if i.SecretFile == "" {
				k.mistake(at(key, n), "HS256 needs secret_file; with a key set a public key would serve as secret")
			}
		case cipher.Withdrawn(a, "EdDSA, ES256 or RS256") != nil:
			k.mistake(at(key, n), "%s", cipher.Withdrawn(a, "EdDSA, ES256 or RS256"))
		case !slices.Contains([]string{jwt.EdDSA, jwt.ES256, jwt.RS256}, a):
			k.mistake(at(key, n), "%.20q is not offered; there are EdDSA, ES256 and RS256", a)
		case i.SecretFile != "":
			k.mistake(at(key, n), "%s needs a key set; with secret_file there is only HS256", a)
		}
	}
}
