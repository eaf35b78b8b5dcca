package bridges

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"edgepost/scripts/brokers"
)

// single is one of many bridges of a gateway: it forwards out/<name>, and what it receives comes to cmd/<name>.
type single struct {
	name, kind, url string
	keys            string // further lines of [[bridge]]
	to              string // up.to; "" nothing goes out
	from            string // down.from; "" nothing comes in
	options         string // lines of [bridge.options]
}

func (s single) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[bridge]]\nname = %q\nkind = %q\nurls = [%q]\n%s\n", s.name, s.kind, s.url, s.keys)
	if s.to != "" {
		fmt.Fprintf(&b, "[bridge.up]\nfilters = [\"out/%s\"]\nto = %q\nformat = \"raw\"\nmax_attempts = 1\n", s.name, s.to)
	}
	if s.from != "" {
		fmt.Fprintf(&b, "[bridge.down]\nfrom = [%q]\nto = \"cmd/%s\"\n", s.from, s.name)
	}
	return b.String() + "[bridge.options]\n" + s.options
}

// gatewayWith starts one gateway with all the bridges, and returns when they are connected.
func gatewayWith(t *testing.T, list []single) *gateway {
	t.Helper()
	var text strings.Builder
	for _, s := range list {
		text.WriteString(s.config())
	}
	g := newGateway(t, text.String())
	g.start()
	for _, s := range list {
		wait(t, s.name+" connects", func() bool { return g.show(s.name).State == "connected" })
	}
	return g
}

// say publishes a text.
func (g *gateway) say(topic, text string) {
	g.t.Helper()
	r, err := g.http.Post("http://"+g.addr+"/v1/publish/"+topic, "text/plain", strings.NewReader(text))
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusCreated {
		g.t.Fatalf("publish to %s: %s %s", topic, r.Status, b)
	}
}

// holds reports whether a message on the topic contains the text.
func (g *gateway) holds(topic, text string) bool {
	g.t.Helper()
	r, err := g.http.Get("http://" + g.addr + "/v1/messages?limit=1000&topic=" + url.QueryEscape(topic))
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		g.t.Fatalf("read %s: %s %s %v", topic, r.Status, b, err)
	}
	return strings.Contains(string(b), text)
}

// account is the log-in of all brokers.
const account = "username = \"" + brokers.User + "\"\npassword_file = \"PASSWORD_FILE\"\n"
