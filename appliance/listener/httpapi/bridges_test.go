package httpapi

import (
	"context"
	"strings"
	"testing"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// What the fake core says about bridges.

func fakeBridge() BridgeView {
	eta := 6.0
	return BridgeView{Name: "central", Kind: "mqtt", State: "connected", Owed: 3, Bytes: 900, InFlight: 2, OldestAge: 1.5, Rate: 0.5, ETA: &eta, Source: "api"}
}

func (f *fakeCore) Bridges(context.Context, *auth.Grant) ([]BridgeView, error) {
	return []BridgeView{fakeBridge()}, f.note("Bridges")
}

func (f *fakeCore) Bridge(_ context.Context, _ *auth.Grant, name string) (BridgeView, error) {
	return fakeBridge(), f.note("Bridge %s", name)
}

func (f *fakeCore) PutBridge(_ context.Context, _ *auth.Grant, name string, config map[string]any, merge bool) (BridgeView, bool, error) {
	return fakeBridge(), false, f.note("PutBridge %s %v %t", name, config, merge)
}

func (f *fakeCore) RemoveBridge(_ context.Context, _ *auth.Grant, name string) error {
	return f.note("RemoveBridge %s", name)
}

func (f *fakeCore) OrderBridge(_ context.Context, _ *auth.Grant, name string, o BridgeOrder) (BridgeResult, error) {
	return BridgeResult{Skipped: 5, Gap: true, OK: false, Error: "refused"}, f.note("OrderBridge %s %s %v %s %s", name, o.Do, o.Since, o.After, o.Until)
}

func TestBridgeOrders(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		do, body string
		status   int
		want     string
	}{
		{"pause", "", 204, ""},
		{"resume", "", 204, ""},
		{"drain", "", 204, ""},
		{"test", "", 200, `{"ok":false,"error":"refused"}`},
		{"skip", "", 200, `{"skipped":5}`},
		{"skip", `{"until":"k3f9w2xq-41"}`, 200, `{"skipped":5}`},
		{"skip", `{"since":5}`, 400, message.CodeBadJSON},
		{"skip", `{"until":"x"}`, 400, message.CodeBadID},
		{"rewind", `{"after":"oldest"}`, 200, `{"gap":true}`},
		{"rewind", `{"after":"k3f9w2xq-41"}`, 200, `{"gap":true}`},
		{"rewind", `{"since":"10m"}`, 200, `{"gap":true}`},
		{"rewind", `{}`, 400, message.CodeBadJSON},
		{"rewind", `{"after":"oldest","since":5}`, 400, message.CodeBadJSON},
		{"rewind", `{"after":"x"}`, 400, message.CodeBadID},
		{"explode", "", 404, "there are pause, resume"},
	} {
		w := s.send("POST", "/v1/bridges/central/"+c.do, c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s", c.do, c.body, w.Code, w.Body)
		}
	}
	problem(t, s.send("PUT", "/v1/bridges/a%20b", `{}`), message.CodeBadName)
}
