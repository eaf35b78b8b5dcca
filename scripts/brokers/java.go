package brokers

import (
	_ "embed" // the starters
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var (
	//go:embed jars/artemis/Artemis.java
	artemisSource string
	//go:embed jars/artemis/broker.xml
	artemisConfig string
	//go:embed jars/activemq/ActiveMQ.java
	activemqSource string
	//go:embed jars/kafka/server.properties
	kafkaConfig string
	//go:embed jars/log4j2.properties
	logConfig string
)

// java is the command line of a broker's virtual machine, small and quick to start.
func java(classpath string, args ...string) program {
	return program{args: append([]string{
		"java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dlog4j2.configurationFile=log4j2.properties", "-Djava.io.tmpdir=.", "-cp", classpath,
	}, args...)}
}

// jars is the class path of what scripts/setup fetched.
func (b *Broker) jars() (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", errors.New("there is no java; scripts/setup installs it")
	}
	dir, err := root()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, ".cache", "brokers", b.Name)
	if found, err := filepath.Glob(filepath.Join(dir, "*.jar")); err != nil || len(found) == 0 {
		return "", fmt.Errorf("its jars are not in %s; scripts/setup fetches them", dir)
	}
	return filepath.Join(dir, "*"), b.write("log4j2.properties", logConfig)
}

func kafka(b *Broker) error {
	if strings.Contains(b.dir, ",") {
		return fmt.Errorf("its directory %s has a comma: it would take that for two, and lose what is in the second", b.dir)
	}
	jars, err := b.jars()
	if err != nil {
		return err
	}
	if err := b.listen("kafka", "kafka+sasl", "kafka+tls", "kafka+mtls", "kafka+behind", "front", "controller"); err != nil {
		return err
	}
	b.front = b.addrs["front"]
	delete(b.addrs, "front") // not the broker's to listen on
	if err := b.certify(); err != nil {
		return err
	}
	text := strings.NewReplacer(
		"@kafka@", b.addrs["kafka"], "@sasl@", b.addrs["kafka+sasl"], "@tls@", b.addrs["kafka+tls"], "@mtls@", b.addrs["kafka+mtls"], "@behind@", b.addrs["kafka+behind"], "@front@", b.front, "@controller@", b.addrs["controller"],
		"@dir@", b.dir, "@user@", User, "@password@", Password,
	).Replace(kafkaConfig)
	if err := b.write("server.properties", text); err != nil {
		return err
	}
	format := []string{"kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"}
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		format = append(format, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, User, Password))
	}
	b.prepare = []program{java(jars, format...)}
	b.main = java(jars, "kafka.Kafka", "server.properties")
	b.ready = "Kafka Server started"
	return nil
}

func artemis(b *Broker) error {
	jars, err := b.jars()
	if err != nil {
		return err
	}
	if err := errors.Join(b.listen("amqp", "amqp+tls", "amqp+mtls"), b.certify()); err != nil {
		return err
	}
	for _, p := range []string{"", "+tls", "+mtls"} {
		b.addrs["stomp"+p] = b.addrs["amqp"+p]
	}
	b.prepare = []program{keystore()}
	text := strings.NewReplacer("@dir@", b.dir, "@addr@", b.addrs["amqp"], "@tls@", b.addrs["amqp+tls"], "@mtls@", b.addrs["amqp+mtls"], "@password@", Password).Replace(artemisConfig)
	if err := errors.Join(b.write("broker.xml", text), b.write("Artemis.java", artemisSource)); err != nil {
		return err
	}
	b.main = java(jars, "Artemis.java", "broker.xml", User, Password)
	b.ready = "READY"
	return nil
}

func activemq(b *Broker) error {
	jars, err := b.jars()
	if err != nil {
		return err
	}
	return b.classic(jars, "amqp", "stomp", "amqp+tls", "stomp+tls")
}

// debianActiveMQ has no AMQP: its jars are not packaged.
func debianActiveMQ(b *Broker) error {
	const dir = "/usr/share/activemq/lib"
	if _, err := os.Stat(dir); err != nil {
		return errors.New("activemq of Debian is not installed; scripts/setup does it")
	}
	if err := b.write("log4j2.properties", logConfig); err != nil {
		return err
	}
	return b.classic(dir+"/*:"+dir+"/optional/*", "stomp", "tcp")
}

func (b *Broker) classic(jars string, protocols ...string) error {
	if err := errors.Join(b.listen(protocols...), b.certify(), b.write("ActiveMQ.java", activemqSource)); err != nil {
		return err
	}
	b.prepare = []program{keystore()}
	args := []string{
		"-Djavax.net.ssl.keyStore=server.p12", "-Djavax.net.ssl.keyStorePassword=" + Password, "-Djavax.net.ssl.trustStore=server.p12", "-Djavax.net.ssl.trustStorePassword=" + Password,
		"ActiveMQ.java", b.file("data"), User, Password,
	}
	for _, p := range protocols {
		scheme, tls := strings.CutSuffix(p, "+tls")
		options := ""
		if tls {
			scheme, options = scheme+"+ssl", "transport.needClientAuth=true&"
		}
		if strings.HasPrefix(scheme, "stomp") {
			options += fmt.Sprintf("wireFormat.maxDataLength=%d", MaxMessage)
		}
		args = append(args, scheme+"://"+b.addrs[p]+"?"+options)
	}
	b.main = java(jars, args...)
	b.ready = "READY"
	return nil
}

func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return p
}
