package oauthapi

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/oauth"
	"edgepost/appliance/message"
)

// fakeCore knows the client lamp:1 with the secret "s+cret", and notes what it was asked.
type fakeCore struct {
	asked []string
	fail  error
	none  bool
}

func (f *fakeCore) note(c auth.Credentials, more string) error {
	f.asked = append(f.asked, c.Name+" "+c.Token+" "+more)
	if f.fail == nil && c.Token != "" && c.Token != "s+cret" {
		return message.Problemf(message.CodeUnauthorized, "unknown name or wrong token")
	}
	return f.fail
}

func (f *fakeCore) ClientToken(_ context.Context, c auth.Credentials, scope string) (oauth.Token, error) {
	return oauth.Token{Text: "t.o.k", Expires: 15 * time.Minute, Scope: scope}, f.note(c, "token "+scope)
}

func (f *fakeCore) BeginDevice(_ context.Context, c auth.Credentials, scope string) (oauth.Codes, error) {
	return oauth.Codes{Device: "dev", User: "BCDF-GHJK"}, f.note(c, "begin "+scope)
}

func (f *fakeCore) DeviceToken(_ context.Context, c auth.Credentials, code string) (oauth.Token, string, error) {
	return oauth.Token{Text: "t.o.k", Expires: time.Minute}, "ep_new", f.note(c, "device "+code)
}

func (f *fakeCore) RevokeAccess(_ context.Context, c auth.Credentials, token string) error {
	return f.note(c, "revoke "+token)
}

func (f *fakeCore) IntrospectAccess(_ context.Context, c auth.Credentials, token string) (*oauth.Description, error) {
	if err := f.note(c, "introspect "+token); err != nil || token == "dead" {
		return nil, err
	}
	return &oauth.Description{Subject: "device/lamp:1", Client: "lamp:1", ID: "j", Scope: "admin", Bound: "x", Issued: time.Unix(1, 0), Expires: time.Unix(2, 0)}, nil
}

func (f *fakeCore) SigningKeys() []byte {
	if f.none {
		return nil
	}
	return []byte(`{"keys":[]}`)
}

func (f *fakeCore) Issuer() string { return "https://gateway.local" }

// send makes a request from the network over TLS, and decodes the answer.
func send(t *testing.T, f *fakeCore, method, path, body string, change func(*http.Request)) (*http.Response, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.TLS, r.Host = new(tls.ConnectionState), "192.168.1.1:8448"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(r)
	}
	for _, e := range Endpoints(f, nil) {
		if e.Method == method && e.Path == r.URL.Path {
			w := httptest.NewRecorder()
			e.Handler.ServeHTTP(w, r)
			var m map[string]any
			if w.Body.Len() > 0 && json.Unmarshal(w.Body.Bytes(), &m) != nil {
				t.Fatalf("%s is answered by %q", path, w.Body)
			}
			return w.Result(), m
		}
	}
	t.Fatalf("%s %s is not served", method, path)
	return nil, nil
}

func basic(name, secret string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(name+":"+secret)))
	}
}

// Clients may show themselves in the header, plain or as RFC 6749 §2.3.1 encodes it, or in the body.
func TestClients(t *testing.T) {
	const body = "grant_type=client_credentials"
	for name, c := range map[string]struct {
		body   string
		change func(*http.Request)
		asked  string
	}{
		"header":         {body, basic("lamp:1", "s+cret"), "lamp:1 s+cret token "},
		"header encoded": {body, basic("lamp%3A1", "s%2Bcret"), "lamp:1 s+cret token "},
		"body":           {body + "&client_id=lamp:1&client_secret=s%2Bcret", nil, "lamp:1 s+cret token "},
		"header and id":  {body + "&client_id=lamp:1", basic("lamp:1", "s+cret"), "lamp:1 s+cret token "},
		"scope":          {body + "&scope=admin+publish:a/%2B", basic("lamp:1", "s+cret"), "lamp:1 s+cret token admin publish:a/+"},
		"certificate":    {body, func(r *http.Request) { *r = *r.WithContext(auth.WithDevice(r.Context(), "lamp:1", "thumb")) }, "  token "},
		"empty scope":    {body + "&scope=&unknown=1", basic("lamp:1", "s+cret"), "lamp:1 s+cret token "},
	} {
		f := new(fakeCore)
		res, m := send(t, f, "POST", "/oauth2/token", c.body, c.change)
		if res.StatusCode != 200 || m["access_token"] != "t.o.k" || m["token_type"] != "Bearer" || m["expires_in"] != 900.0 || f.asked[len(f.asked)-1] != c.asked {
			t.Errorf("%s: %d %v, asked %q", name, res.StatusCode, m, f.asked)
		}
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Pragma") != "no-cache" {
			t.Errorf("%s: %v", name, res.Header)
		}
	}
}

// Every mistake has its code of RFC 6749 §5.2, and asks nobody.
func TestMistakes(t *testing.T) {
	ok := basic("lamp:1", "s+cret")
	for name, c := range map[string]struct {
		path, body string
		change     func(*http.Request)
		status     int
		code       string
	}{
		"no grant":         {"token", "", ok, 400, "invalid_request"},
		"other grant":      {"token", "grant_type=password&username=a&password=b", ok, 400, "unsupported_grant_type"},
		"no device code":   {"token", "grant_type=" + url.QueryEscape(grantDevice), ok, 400, "invalid_request"},
		"twice":            {"token", "grant_type=client_credentials&grant_type=client_credentials", ok, 400, "invalid_request"},
		"in the address":   {"token?grant_type=client_credentials", "", ok, 400, "invalid_request"},
		"secret twice":     {"token", "grant_type=client_credentials&client_secret=s", ok, 400, "invalid_request"},
		"another id":       {"token", "grant_type=client_credentials&client_id=x", ok, 400, "invalid_request"},
		"malformed":        {"token", "grant_type=%zz", ok, 400, "invalid_request"},
		"too long":         {"token", "x=" + strings.Repeat("a", maxForm), ok, 400, "invalid_request"},
		"JSON":             {"token", `{"grant_type":"client_credentials"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400, "invalid_request"},
		"Bearer":           {"token", "grant_type=client_credentials", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, "invalid_client"},
		"two headers":      {"token", "grant_type=client_credentials", func(r *http.Request) { r.Header["Authorization"] = []string{"Basic eDp5", "Basic eDp5"} }, 400, "invalid_request"},
		"no name":          {"token", "grant_type=client_credentials", basic("", "x"), 401, "invalid_client"},
		"impossible name":  {"token", "grant_type=client_credentials&client_id=a%20b&client_secret=x", nil, 401, "invalid_client"},
		"plain HTTP":       {"token", "grant_type=client_credentials", func(r *http.Request) { r.TLS = nil }, 400, "invalid_request"},
		"secret alone":     {"token", "grant_type=client_credentials&client_secret=x", nil, 400, "invalid_request"},
		"no client id":     {"device_authorization", "scope=admin", nil, 400, "invalid_request"},
		"nothing revoked":  {"revoke", "token_type_hint=access_token", ok, 400, "invalid_request"},
		"nothing to tell":  {"introspect", "", ok, 400, "invalid_request"},
		"wrong in header":  {"token", "grant_type=client_credentials", basic("lamp:1", "wrong"), 401, "invalid_client"},
		"wrong in body":    {"token", "grant_type=client_credentials&client_id=a&client_secret=wrong", nil, 401, "invalid_client"},
		"wrong on revoke":  {"revoke", "token=t", basic("lamp:1", "wrong"), 401, "invalid_client"},
		"wrong on inspect": {"introspect", "token=t", basic("lamp:1", "wrong"), 401, "invalid_client"},
	} {
		f := new(fakeCore)
		res, m := send(t, f, "POST", "/oauth2/"+c.path, c.body, c.change)
		if res.StatusCode != c.status || m["error"] != c.code || m["error_description"] == "" {
			t.Errorf("%s: %d %v", name, res.StatusCode, m)
		}
		if strings.HasPrefix(name, "wrong") == (len(f.asked) == 0) {
			t.Errorf("%s: asked %q", name, f.asked)
		}
		challenged := c.status == 401 && c.change != nil
		if got := res.Header.Get("WWW-Authenticate"); (got != "") != challenged {
			t.Errorf("%s: WWW-Authenticate %q", name, got)
		}
	}
}

// What the core says is told in the codes of OAuth.
func TestCoreErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{oauth.Errorf(oauth.AuthorizationPending, "x"), 400, "authorization_pending"},
		{oauth.Errorf(oauth.SlowDown, "x"), 400, "slow_down"},
		{oauth.Errorf(oauth.InvalidScope, "x"), 400, "invalid_scope"},
		{oauth.Errorf(oauth.TemporarilyUnavailable, "x"), 503, "temporarily_unavailable"},
		{message.Problemf(message.CodeUnauthorized, `a "quoted" \ näme`), 401, "invalid_client"},
		{message.Problemf(message.CodeWaiting, "x"), 401, "invalid_client"},
		{message.Problemf(message.CodeTooMany, "x"), 429, "temporarily_unavailable"},
		{message.Problemf(message.CodeStorageFull, "x"), 503, "temporarily_unavailable"},
		{message.Problemf(message.CodeBadName, "x"), 400, "invalid_request"},
		{errors.New("a secret of the inside"), 500, "server_error"},
	} {
		res, m := send(t, &fakeCore{fail: c.err}, "POST", "/oauth2/token", "grant_type=client_credentials", basic("a", "b"))
		d, _ := m["error_description"].(string)
		if res.StatusCode != c.status || m["error"] != c.code || strings.Contains(d, "secret") || strings.ContainsAny(d, "\"\\") {
			t.Errorf("%v: %d %v", c.err, res.StatusCode, m)
		}
		if retry := res.Header.Get("Retry-After") != ""; retry != (c.status == 429 || c.status == 503) {
			t.Errorf("%v: Retry-After %v", c.err, retry)
		}
	}
}

func TestAnswers(t *testing.T) {
	ok := basic("lamp:1", "s+cret")
	_, m := send(t, new(fakeCore), "POST", "/oauth2/device_authorization", "client_id=panel&scope=admin", nil)
	if m["device_code"] != "dev" || m["user_code"] != "BCDF-GHJK" || m["verification_uri"] != "https://192.168.1.1:8448/device" || m["expires_in"] != 600.0 || m["interval"] != 5.0 ||
		m["verification_uri_complete"] != "https://192.168.1.1:8448/device?user_code=BCDF-GHJK" {
		t.Errorf("%v", m)
	}
	f := new(fakeCore)
	_, m = send(t, f, "POST", "/oauth2/token", "grant_type="+url.QueryEscape(grantDevice)+"&device_code=dev&client_id=panel", nil)
	if m["client_secret"] != "ep_new" || f.asked[0] != "panel  device dev" {
		t.Errorf("%v, asked %q", m, f.asked)
	}
	res, m := send(t, new(fakeCore), "POST", "/oauth2/revoke", "token=t&token_type_hint=anything", ok)
	if res.StatusCode != 200 || m != nil {
		t.Errorf("%d %v", res.StatusCode, m)
	}
	_, m = send(t, new(fakeCore), "POST", "/oauth2/introspect", "token=t", ok)
	if m["active"] != true || m["sub"] != "device/lamp:1" || m["exp"] != 2.0 || m["cnf"].(map[string]any)["x5t#S256"] != "x" || m["aud"] != "https://gateway.local" {
		t.Errorf("%v", m)
	}
	if _, m = send(t, new(fakeCore), "POST", "/oauth2/introspect", "token=dead", ok); len(m) != 1 || m["active"] != false {
		t.Errorf("%v", m)
	}
	_, m = send(t, new(fakeCore), "GET", "/.well-known/oauth-authorization-server", "", nil)
	if m["issuer"] != "https://gateway.local" || m["token_endpoint"] != "https://192.168.1.1:8448/oauth2/token" {
		t.Errorf("%v", m)
	}
	res, _ = send(t, new(fakeCore), "GET", "/oauth2/jwks", "", nil)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if res, m = send(t, &fakeCore{none: true}, "GET", "/oauth2/jwks", "", nil); res.StatusCode != 503 || m["error"] != "temporarily_unavailable" {
		t.Errorf("%d %v", res.StatusCode, m)
	}
}

func FuzzForm(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id=a&client_secret=b", "Basic YTpi")
	f.Add("grant_type=%zz", "Basic :")
	f.Fuzz(func(t *testing.T, body, header string) {
		core := new(fakeCore)
		res, m := send(t, core, "POST", "/oauth2/token", body, func(r *http.Request) { r.Header.Set("Authorization", header) })
		if res.StatusCode != 200 && m["error"] == nil {
			t.Fatalf("%d %v", res.StatusCode, m)
		}
	})
}
