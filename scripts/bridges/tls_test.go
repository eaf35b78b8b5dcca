package bridges

import (
	"fmt"
	"testing"

	"edgepost/scripts/brokers"
)

// badTLS is what people get wrong about TLS; s is a bridge that would be right without it. The port tls wants a client
// certificate, plain is without TLS. The first two are what libraries see differently.
func badTLS(t *testing.T, b *brokers.Broker, s single, scheme, tls, plain string) []wrong {
	t.Helper()
	other, err := brokers.New("mosquitto", t.TempDir()) // for its certificates
	if err != nil {
		cannot(t, err)
	}
	one := func(name, scheme, protocol, keys, state, words string) wrong {
		c := s
		c.name, c.url, c.keys = "up", scheme+"://"+b.Addr(protocol), s.keys+keys
		return wrong{name: s.kind + "-" + name, text: c.config(), state: state, words: words}
	}
	return []wrong{
		one("right", scheme+"s", tls, trust(b)+show(b), "connected", ""),
		one("no-certificate", scheme+"s", tls, trust(b), "misconfigured", "client certificate"),
		one("foreign-certificate", scheme+"s", tls, trust(b)+show(other), "misconfigured", "client certificate"),
		one("no-authority", scheme+"s", tls, show(b), "misconfigured", "ca_file"),
		one("foreign-authority", scheme+"s", tls, trust(other)+show(b), "misconfigured", "ca_file"),
		one("wrong-name", scheme+"s", tls, trust(b)+show(b)+"server_name = \"broker.example\"\n", "misconfigured", "server_name"),
		one("tls-to-plain", scheme+"s", plain, trust(b)+show(b), "", "TLS"),
		one("plain-to-tls", scheme, tls, "", "", "TLS"),
	}
}

func trust(b *brokers.Broker) string { return fmt.Sprintf("ca_file = %q\n", b.Authority()) }

func show(b *brokers.Broker) string {
	cert, key := b.Client()
	return fmt.Sprintf("cert_file = %q\nkey_file = %q\n", cert, key)
}
