package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"edgepost/appliance"
	"edgepost/appliance/message"
)

// logBudget has room for a million messages of one device, which may hold a quarter.
const logBudget = 6 << 30

// gateway is one data directory and the edgepost process that serves it, if one runs.
type gateway struct {
	b     *bench
	data  string
	addr  string // of HTTP; stays the same over restarts
	mqtt  string // of MQTT, likewise
	https string // the same two over TLS
	mqtts string
	under []string     // what the process is started by
	api   *http.Client // over the control socket
	*process
}

func newGateway(b *bench) (*gateway, error) {
	data, err := b.dir()
	if err != nil {
		return nil, err
	}
	g := &gateway{b: b, data: data}
	for _, into := range []*string{&g.addr, &g.mqtt, &g.https, &g.mqtts} {
		if *into, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf("[storage]\nmax_bytes = %d\n[limits]\nmax_connections = 12000\n", int64(logBudget))
	return g, os.WriteFile(g.data+".toml", []byte(text), 0o600)
}

// start starts the process and returns how long it took until /healthz answered.
func (g *gateway) start(ctx context.Context) (time.Duration, error) {
	args := append(slices.Clone(g.under), g.b.binary, "serve", "-json", "-anonymous", "-config", g.data+".toml",
		"-data", g.data, "-http", g.addr, "-mqtt", g.mqtt, "-https", g.https, "-mqtts", g.mqtts)
	began := time.Now()
	var err error
	if g.process, err = spawn(g.data+".log", args); err != nil {
		return 0, err
	}
	for !healthy(g.addr) {
		select {
		case <-g.ended:
			text, _ := os.ReadFile(g.data + ".log")
			return 0, fmt.Errorf("edgepost ended instead of serving: %.500s", text)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(500 * time.Microsecond):
		}
		if time.Since(began) > 2*time.Minute {
			return 0, errors.New("edgepost was not ready within 2 minutes")
		}
	}
	ready := time.Since(began)
	socket := appliance.SocketPath(g.data)
	g.api = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return ready, nil
}

// end signals the process and waits for it; SIGKILL is what the restarts are about.
func (g *gateway) end(sig syscall.Signal) {
	if g.api != nil {
		g.api.CloseIdleConnections()
	}
	g.process.end(sig)
	g.process = nil
}

// remove ends the process and deletes what it stored.
func (g *gateway) remove() error {
	g.end(syscall.SIGKILL)
	return errors.Join(os.RemoveAll(g.data), os.Remove(g.data+".toml"), os.RemoveAll(g.data+".log"))
}

// ask calls the API over the control socket, as the owner.
func (g *gateway) ask(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := g.api.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, answer)
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer, into)
}

// newcomer is a device to be added.
type newcomer struct {
	ID     string        `json:"id"`
	Groups []string      `json:"groups,omitempty"`
	Rules  message.Rules `json:"rules"`
}

func deviceName(i int) string { return fmt.Sprintf("d%05d", i) }

// inboxTopic is a topic in that device's inbox.
func inboxTopic(i int) string { return "device/" + deviceName(i) + "/in/x" }

// addDevices adds the devices from to to-1, 64 at a time, and returns their tokens.
func (g *gateway) addDevices(ctx context.Context, from, to int, groups []string, subscribe ...message.Filter) ([]string, error) {
	tokens := make([]string, to-from)
	err := each(ctx, to-from, 64, func(i int) error {
		var answer struct{ Token string }
		n := newcomer{deviceName(from + i), groups, message.Rules{Subscribe: subscribe}}
		err := g.ask(ctx, "POST", "/v1/devices", n, &answer)
		tokens[i] = answer.Token
		return err
	})
	return tokens, err
}

// helloAs is the hello of a device.
func helloAs(device, token string) string {
	return fmt.Sprintf(`{"hello":{"device":%q,"token":%q}}`, device, token)
}
