//go:build !omit_kafka

package kafka

import (
	"context"
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

func (d *dialer) prepareTokens() error {
	o := d.c.Options
	if o["token_url"] != "" {
		client, err := oauthclient.New(oauthclient.Options{
			URL: o["token_url"], ClientID: o["client_id"], SecretFile: o["client_secret_file"], Scope: strings.Fields(o["scope"]), CAFile: d.c.CAFile,
		})
		if err != nil {
			return &optionError{"token_url", err}
		}
		d.tokens = client
	}
	switch m := d.c.Options["mechanism"]; m {
	case "", "oauthbearer":
		return nil
	case "plain", "scram-sha-256", "scram-sha-512":
		if d.c.Username == "" || d.c.PasswordFile == "" {
			return &optionError{"mechanism", fmt.Errorf("%s needs username and password_file", m)}
		}
		return nil
	default:
		return &optionError{"mechanism", fmt.Errorf("%.40q is not known; there are plain, scram-sha-256, scram-sha-512, oauthbearer", m)}
	}
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
func (d *dialer) mechanism() (sasl.Mechanism, error) {
	m, err := d.choose()
	if m == nil {
		return nil, err
	}
	return login{m}, err
}

func (d *dialer) choose() (sasl.Mechanism, error) {
	name := d.c.Options["mechanism"]
	if d.tokens != nil && (name == "" || name == "oauthbearer") {
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, _, err := d.tokens.Token(ctx)
			return oauth.Auth{Token: token}, err
		}), nil
	}
	secret, err := d.c.Secret()
	if err != nil {
		return nil, err
	}
	switch {
	case name == "scram-sha-256":
		return scram.Auth{User: d.c.Username, Pass: secret}.AsSha256Mechanism(), nil
	case name == "scram-sha-512":
		return scram.Auth{User: d.c.Username, Pass: secret}.AsSha512Mechanism(), nil
	case name == "oauthbearer" && d.c.TokenFile == "":
		return nil, bridge.Errorf(bridge.Configuration, "options.mechanism is oauthbearer, and there is neither token_file nor options.token_url")
	case name == "oauthbearer", name == "" && d.c.TokenFile != "":
		return oauth.Auth{Token: secret}.AsMechanism(), nil
	case d.c.Username != "":
		return plain.Auth{User: d.c.Username, Pass: secret}.AsMechanism(), nil
	}
	return nil, nil
}
