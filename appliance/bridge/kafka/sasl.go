//go:build !omit_kafka

package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"edgepost/appliance/bridge"
	"edgepost/appliance/guard/oauthclient"
)

// tokens is where access tokens come from. It is an [oauthclient.Client].
type tokens interface {
	Token(ctx context.Context) (string, time.Time, error)
}

// tokensOf is where the options say that they come from; nil: nowhere.
func tokensOf(c *bridge.Config) (tokens, error) {
	o := c.Options
	if o["token_url"] == "" {
		return nil, nil
	}
	return oauthclient.New(oauthclient.Options{
		URL: o["token_url"], ClientID: o["client_id"], SecretFile: o["client_secret_file"], Scope: strings.Fields(o["scope"]), CAFile: c.CAFile,
	})
}

// checkLogin finds an option that does not go with the rest.
func checkLogin(c *bridge.Config) (option string, err error) {
	if _, err := tokensOf(c); err != nil {
		return "token_url", err
	}
	m := c.Options["mechanism"]
	switch {
	case m == "oauthbearer" && c.TokenFile == "" && c.Options["token_url"] == "":
		return "mechanism", errors.New("oauthbearer needs token_file, or options.token_url")
	case m != "" && m != "oauthbearer" && (c.Username == "" || c.PasswordFile == ""):
		return "mechanism", fmt.Errorf("%s needs username and password_file", m)
	}
	return "", nil
}

// login marks what goes wrong after the first word as the broker's refusal: the library's errors about it have no type.
type login struct{ sasl.Mechanism }

func (l login) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	s, first, err := l.Mechanism.Authenticate(ctx, host)
	return dialogue{s}, first, err
}

type dialogue struct{ sasl.Session }

func (d dialogue) Challenge(answer []byte) (bool, []byte, error) {
	done, next, err := d.Session.Challenge(answer)
	if err != nil {
		err = refusal(err)
	}
	return done, next, err
}

func refusal(err error) error {
	return bridge.Errorf(bridge.Configuration, "the broker refuses this user: %w; look at username, password_file or token_file, and options.mechanism", err)
}

// mechanism says who we are; nil when nobody asks.
func (d *dialer) mechanism(secret string) sasl.Mechanism {
	name := d.c.Options["mechanism"]
	switch {
	case d.tokens != nil && (name == "" || name == "oauthbearer"):
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, _, err := d.tokens.Token(ctx)
			return oauth.Auth{Token: token}, err
		})
	case name == "scram-sha-256":
		return scram.Auth{User: d.c.Username, Pass: secret}.AsSha256Mechanism()
	case name == "scram-sha-512":
		return scram.Auth{User: d.c.Username, Pass: secret}.AsSha512Mechanism()
	case d.c.TokenFile != "":
		return oauth.Auth{Token: secret}.AsMechanism()
	case d.c.Username != "":
		return plain.Auth{User: d.c.Username, Pass: secret}.AsMechanism()
	}
	return nil
}
