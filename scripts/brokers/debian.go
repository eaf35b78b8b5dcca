package brokers

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

func rabbitmq(b *Broker) error {
	found, err := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if err != nil || len(found) == 0 {
		return errors.New("rabbitmq-server of Debian is not installed; scripts/setup does it")
	}
	if err := errors.Join(b.listen("amqp091", "amqp091+tls", "stomp", "stomp+tls", "management", "epmd", "erlang"), b.certify()); err != nil {
		return err
	}
	b.addrs["amqp"], b.addrs["amqp+tls"] = b.addrs["amqp091"], b.addrs["amqp091+tls"]
	conf := fmt.Sprintf("listeners.tcp.default = %s\nstomp.listeners.tcp.1 = %s\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n"+
		"default_user = %s\ndefault_pass = %s\ndisk_free_limit.absolute = 50MB\nvm_memory_high_watermark.absolute = 512MB\nlog.console = true\nmax_message_size = %d\n",
		b.addrs["amqp091"], b.addrs["stomp"], port(b.addrs["management"]), User, Password, MaxMessage)
	conf += fmt.Sprintf("listeners.ssl.default = %s\nstomp.listeners.ssl.1 = %s\nssl_options.cacertfile = %s\nssl_options.certfile = %s\nssl_options.keyfile = %[4]s\n"+
		"ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\nstomp.ssl_cert_login = true\n",
		b.addrs["amqp091+tls"], b.addrs["stomp+tls"], b.Authority(), b.file("server.pem"))
	if err := errors.Join(
		b.write("rabbitmq.conf", conf),
		b.write("enabled_plugins", "[rabbitmq_management,rabbitmq_stomp,rabbitmq_amqp1_0,rabbitmq_auth_mechanism_ssl].\n"),
		// The cookie is who may speak to the node; without one of its own a node takes the home directory's.
		b.write(".erlang.cookie", "EDGEPOSTTEST"),
	); err != nil {
		return err
	}
	env := []string{
		"HOME=" + b.dir, "RABBITMQ_NODENAME=edge" + port(b.addrs["erlang"]) + "@localhost", "RABBITMQ_MNESIA_BASE=" + b.file("mnesia"), "RABBITMQ_LOG_BASE=" + b.file("log"),
		"RABBITMQ_PID_FILE=" + b.file("pid"), "RABBITMQ_CONFIG_FILE=" + b.file("rabbitmq"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + b.file("enabled_plugins"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "ERL_EPMD_PORT=" + port(b.addrs["epmd"]), "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_DIST_PORT=" + port(b.addrs["erlang"]),
		"RUNNING_UNDER_SYSTEMD=true", // the shell becomes the node, so that a signal reaches it
	}
	// A port mapper of the broker's own: the one that a node starts itself stays for ever.
	b.beside = []program{{args: []string{"epmd", "-address", "127.0.0.1", "-port", port(b.addrs["epmd"])}}}
	b.main = program{args: []string{found[len(found)-1]}, env: env}
	b.ready = "Server startup complete"
	return nil
}

func mosquitto(b *Broker) error {
	path := "/usr/sbin/mosquitto"
	if p, err := exec.LookPath("mosquitto"); err == nil {
		path = p
	}
	if _, err := exec.LookPath(path); err != nil {
		return errors.New("it is not installed; scripts/setup does it")
	}
	if err := errors.Join(b.listen("mqtt", "mqtt+tls"), b.certify()); err != nil {
		return err
	}
	// It keeps messages in memory; this is the most that it saves: its whole database a second behind each change.
	conf := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nautosave_on_changes false\nautosave_interval 1\nmax_queued_messages 0\nmax_packet_size %d\nuser root\n",
		port(b.addrs["mqtt"]), b.dir, MaxMessage)
	conf += fmt.Sprintf("listener %s 127.0.0.1\ncafile ca.pem\ncertfile server.pem\nkeyfile server.pem\nrequire_certificate true\n", port(b.addrs["mqtt+tls"]))
	if err := b.write("mosquitto.conf", conf); err != nil {
		return err
	}
	b.main = program{args: []string{path, "-c", "mosquitto.conf"}}
	return nil
}
