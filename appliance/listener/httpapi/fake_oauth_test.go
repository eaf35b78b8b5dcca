package httpapi

import (
	"context"
	"net/netip"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/oauth"
)

// What the fake core says about access tokens.

func (f *fakeCore) Issuer() string { return "https://gateway.local:8448" }

func (f *fakeCore) TokenKeys(context.Context, *auth.Grant) ([]oauth.Key, error) {
	return []oauth.Key{{ID: "k1", State: "current", Since: time.Minute}}, f.note("TokenKeys")
}

func (f *fakeCore) RotateTokenKeys(_ context.Context, _ *auth.Grant, end bool) error {
	return f.note("RotateTokenKeys %v", end)
}

func (f *fakeCore) RevokeTokens(_ context.Context, _ *auth.Grant, principal string) error {
	return f.note("RevokeTokens %s", principal)
}

func (f *fakeCore) DeviceRequest(_ context.Context, _ *auth.Grant, code string) (oauth.Request, string, error) {
	return oauth.Request{Client: "panel", From: netip.MustParseAddr("192.168.1.9"), Left: time.Minute}, "device/panel", f.note("DeviceRequest %s", code)
}

func (f *fakeCore) ApproveDevice(_ context.Context, _ *auth.Grant, code string, keep bool) (string, error) {
	return "panel", f.note("ApproveDevice %s %v", code, keep)
}

func (f *fakeCore) RefuseDevice(_ context.Context, _ *auth.Grant, code string) error {
	return f.note("RefuseDevice %s", code)
}
