//go:build !omit_kafka

package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"edgepost/appliance/bridge"
)

// checkLogin finds a mechanism that does not go with the rest.
func checkLogin(c *bridge.Config, mistake bridge.Mistake) {
	switch m := c.Options["mechanism"]; {
	case m == "oauthbearer" && !c.Bearer():
		mistake("options.mechanism", "oauthbearer needs token_file or [bridge.token]")
	case m != "" && m != "oauthbearer" && (c.Username == "" || c.PasswordFile == ""):
		mistake("options.mechanism", "%s needs username and password_file", m)
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
func (d *dialer) mechanism(e *bridge.Epoch) sasl.Mechanism {
	switch name := d.c.Options["mechanism"]; {
	case name == "scram-sha-256":
		return scram.Auth{User: d.c.Username, Pass: e.Secret}.AsSha256Mechanism()
	case name == "scram-sha-512":
		return scram.Auth{User: d.c.Username, Pass: e.Secret}.AsSha512Mechanism()
	case d.c.Bearer():
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := e.Credential(ctx) // each connection to a broker shows it, and shows it again when it ends
			return oauth.Auth{Token: token}, err
		})
	case d.c.Username != "":
		return plain.Auth{User: d.c.Username, Pass: e.Secret}.AsMechanism()
	}
	return nil
}
