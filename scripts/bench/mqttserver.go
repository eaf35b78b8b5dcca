package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// mqttServer is one of the servers that the MQTT rows compare. stop ends it and removes what it stored.
type mqttServer struct {
	name string
	addr string
	pid  int
	stop func() error
}

func (s *mqttServer) cpu() float64 { return cpuSeconds(s.pid) }

// mqttPeer starts one kind of server.
type mqttPeer struct {
	name  string
	short string // in JSON
	start func(ctx context.Context) (*mqttServer, error)
}

// mqttPeers are edgepost and what is compared with it; missing says why Mosquitto is not.
func (b *bench) mqttPeers() (ours mqttPeer, peers []mqttPeer, missing string) {
	nats := func(sync string) func(context.Context) (*mqttServer, error) {
		return func(context.Context) (*mqttServer, error) { return b.natsMQTT(sync) }
	}
	ours = mqttPeer{"edgepost", "edgepost", b.edgepostMQTT}
	peers = []mqttPeer{{"NATS always", "nats_always", nats(syncAlways)}, {"NATS lazy", "nats_lazy", nats(syncLazy)}}
	path, err := mosquittoPath()
	if err != nil {
		return ours, peers, "Mosquitto is not here (Debian: apt-get install mosquitto), so its rows are missing."
	}
	return ours, append(peers, mqttPeer{"Mosquitto", "mosquitto", func(ctx context.Context) (*mqttServer, error) {
		return b.mosquitto(ctx, path)
	}}), ""
}

func (b *bench) edgepostMQTT(ctx context.Context) (*mqttServer, error) {
	g, err := newGateway(b)
	if err != nil {
		return nil, err
	}
	if _, err := g.start(ctx); err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return &mqttServer{"edgepost", g.mqtt, g.pid(), g.remove}, nil
}

func (b *bench) natsMQTT(sync string) (*mqttServer, error) {
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	p, err := b.natsServer(dir, sync)
	if err != nil {
		return nil, err
	}
	return &mqttServer{"NATS " + sync, p.MQTT, p.pid(), p.remove}, nil
}

// mosquittoPath finds the broker, which Debian has where only root looks.
func mosquittoPath() (string, error) {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/mosquitto")
}

// mosquittoVersion is "" without one.
func mosquittoVersion() string {
	path, err := mosquittoPath()
	if err != nil {
		return ""
	}
	text, _ := exec.Command(path, "-h").Output() // it exits with 3
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimPrefix(strings.TrimSpace(line), "mosquitto version ")
}

// mosquitto starts the broker as a user would who wants it to lose nothing and to be quick: no limit to
// what it queues, TCP_NODELAY. It keeps everything in memory: written only at exit, were persistence on.
func (b *bench) mosquitto(ctx context.Context, path string) (*mqttServer, error) {
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %s %s\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\npersistence false\nlog_dest none\nuser %s\n",
		port, host, userName())
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	p, err := spawn(filepath.Join(dir, "log"), []string{path, "-c", file})
	if err != nil {
		return nil, err
	}
	s := &mqttServer{"Mosquitto", addr, p.pid(), func() error {
		p.end(syscall.SIGKILL)
		return os.RemoveAll(dir)
	}}
	for began := time.Now(); ; {
		m, err := dialMQTT(addr, "ready", true, 5*time.Second)
		if err == nil {
			m.close()
			return s, nil
		}
		select {
		case <-p.ended:
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, errors.Join(fmt.Errorf("mosquitto ended instead of serving: %.300s", said), s.stop())
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), s.stop())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Since(began) > grace {
			return nil, errors.Join(fmt.Errorf("mosquitto is not ready: %w", err), s.stop())
		}
	}
}

// userName keeps root: the directory belongs to it.
func userName() string {
	if os.Geteuid() == 0 {
		return "root"
	}
	return "nobody" // only root changes users
}

// freeAddress is a port of the loopback interface that nobody had a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
