package brokers

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Issuer is an authority of access tokens: what a broker is told of the server that signs them.
type Issuer struct {
	Name string // the claims iss and aud
	URL  string // of its key set; asked by Kafka
	Keys []byte // the key set; what RabbitMQ knows
	// All is the scope that lets a client do everything with RabbitMQ.
	All string
}

// Trust has Kafka's port kafka+sasl and all ports of RabbitMQ take the issuer's tokens. It is called before the first
// start.
func (b *Broker) Trust(i Issuer) error {
	switch b.Name {
	case "kafka":
		return b.trustKafka(i)
	case "rabbitmq":
		return b.trustRabbitMQ(i)
	}
	return fmt.Errorf("%s takes no tokens", b.Name)
}

func (b *Broker) trustKafka(i Issuer) error {
	err := b.add("server.properties", "listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n"+
		"listener.name.sasl.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler\n"+
		"sasl.oauthbearer.jwks.endpoint.url="+i.URL+"\nsasl.oauthbearer.expected.issuer="+i.Name+"\nsasl.oauthbearer.expected.audience="+i.Name+"\n"+
		// The connection ends with its token unless another is shown (KIP-368).
		"listener.name.sasl.oauthbearer.connections.max.reauth.ms=3600000\n")
	b.main.args = append([]string{b.main.args[0], "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=" + i.URL}, b.main.args[1:]...)
	return err
}

func (b *Broker) trustRabbitMQ(i Issuer) error {
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(i.Keys, &set); err != nil {
		return err
	}
	var keys []string
	for _, k := range set.Keys {
		var members []string
		for name, value := range k {
			members = append(members, fmt.Sprintf("<<%q>> => <<%q>>", name, value))
		}
		keys = append(keys, fmt.Sprintf("<<%q>> => {map, #{%s}}", k["kid"], strings.Join(members, ", ")))
	}
	all := make([]string, 0, 3)
	for _, verb := range []string{"configure", "read", "write"} {
		all = append(all, fmt.Sprintf("<<%q>>", i.Name+"."+verb+":*/*/*"))
	}
	if err := b.write("advanced.config", fmt.Sprintf("[{rabbitmq_auth_backend_oauth2, [{resource_server_id, <<%q>>}, {scope_aliases, #{<<%q>> => [%s]}}, {key_config, [{signing_keys, #{%s}}]}]}].\n",
		i.Name, i.All, strings.Join(all, ", "), strings.Join(keys, ", "))); err != nil {
		return err
	}
	b.main.env = append(b.main.env, "RABBITMQ_ADVANCED_CONFIG_FILE="+b.file("advanced.config"))
	plugins, err := os.ReadFile(b.file("enabled_plugins"))
	if err != nil {
		return err
	}
	if err := b.write("enabled_plugins", strings.Replace(string(plugins), "]", ",rabbitmq_auth_backend_oauth2]", 1)); err != nil {
		return err
	}
	return b.add("rabbitmq.conf", "auth_backends.1 = rabbit_auth_backend_oauth2\nauth_backends.2 = internal\n")
}

// add writes more at the end of a file: what stands there last counts.
func (b *Broker) add(name, text string) error {
	old, err := os.ReadFile(b.file(name))
	if err != nil {
		return err
	}
	return b.write(name, string(old)+text)
}
