package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// works is a request that works.
type works struct {
	route, target, body string
	status              int
	asked               string // the core's last call
	answer              string // part of the body
}

// every has one for each route of the table.
var every = append([]works{
	{"POST /v1/publish/{topic...}", "/v1/publish/a/b", "x", 201, "Publish a/b", `{"id":"k3f9w2xq-42","seq":42,"epoch":"k3f9w2xq","subscriptions":3}`},
	{"POST /v1/publish", "/v1/publish?topic=a/b", "x", 201, "Publish a/b", `"seq":42`},
	{"POST /v1/messages", "/v1/messages?topic=t", "", 201, "Publish t", `"seq":42`},
	{"GET /v1/messages", "/v1/messages?topic=a/%23", "", 200, "History a/#", `{"messages":[{"seq":41,"id":"k3f9w2xq-41","topic":"a/b","ct":"application/json","priority":4,"from":"app","data":{"on":true}}],"next":"k3f9w2xq-41","gap":false}`},
	{"GET /v1/messages/{id}", "/v1/messages/k3f9w2xq-41", "", 200, "Trace k3f9w2xq-41", `"states":[{"subscription":"device/lamp1","state":"waiting","reason":"offline since 09:12","attempt":1,"at":"2027-01-15T08:00:00.000Z"}],"partial":false}`},
	{"DELETE /v1/messages/{id}", "/v1/messages/k3f9w2xq-41", "", 200, "Cancel k3f9w2xq-41", `{"cancelled":2}`},
	{"GET /v1/devices/{id}/messages", "/v1/devices/lamp1/messages?max=5&wait=1s", "", 200, "Fetch {Device:lamp1 Name:} 5 1s", `"data":{"on":true},"attempt":2,"expires_in":2}]}`},
	{"POST /v1/devices/{id}/acks", "/v1/devices/lamp1/acks", `{"ids":["k3f9w2xq-41"]}`, 200, "Acknowledge {Device:lamp1 Name:}", `{"settled":1}`},
	{"GET /v1/subscriptions/{name}/messages", "/v1/subscriptions/jobs/messages", "", 200, "Fetch {Device: Name:jobs} 64 0s", `"attempt":2`},
	{"POST /v1/subscriptions/{name}/acks", "/v1/subscriptions/jobs/acks", `{"upto":"k3f9w2xq-41"}`, 200, "Acknowledge {Device: Name:jobs}", `{"settled":1}`},
	{"POST /v1/subscriptions/{name}/rewind", "/v1/subscriptions/jobs/rewind", `{"after":"k3f9w2xq-3"}`, 200, "Rewind jobs k3f9w2xq-3", `{"gap":true}`},
	{"GET /v1/subscriptions", "/v1/subscriptions", "", 200, "Subscriptions", `{"subscriptions":[{"name":"key/app/jobs","filters":[],`},
	{"PUT /v1/subscriptions/{name}", "/v1/subscriptions/jobs", `{"filters":["a/#"]}`, 200, "PutSubscription jobs", `"filters":["a/#"]`},
	{"GET /v1/subscriptions/{name}", "/v1/subscriptions/jobs", "", 200, "Subscription jobs", `"oldest":"k3f9w2xq-7","oldest_age":90,`},
	{"DELETE /v1/subscriptions/{name}", "/v1/subscriptions/jobs", "", 204, "DeleteSubscription jobs", ""},
	{"POST /v1/tickets", "/v1/tickets", "", 201, "NewTicket", `{"ticket":"tick","expires_in":30}`},

	{"GET /v1/devices", "/v1/devices?search=la&group=hall&state=offline&after=k&limit=1", "", 200, "Find {Search:la Group:hall After:k Limit:1} offline", `{"devices":[{"id":"lamp1","label":"灯","online":false,"since":"2027-01-15T08:00:00Z","reason":"taken over","owed":3,"oldest_age":1.5,"dropped":2}],"total":7,"next":"lamp1"}`},
	{"POST /v1/devices", "/v1/devices", `{"id":"lamp1","label":"L","groups":["hall"],"rules":{"publish":["x/#"]}}`, 201, "AddDevice lamp1 L [hall] [x/#]", `{"id":"lamp1","token":"ep_new"}`},
	{"GET /v1/devices/{id}", "/v1/devices/lamp1", "", 200, "Device lamp1", `"inbox":{"name":"device/lamp1"`},
	{"PUT /v1/devices/{id}", "/v1/devices/lamp1", `{"label":"new"}`, 204, "UpdateDevice lamp1 new", ""},
	{"DELETE /v1/devices/{id}", "/v1/devices/lamp1", "", 204, "RemoveDevice lamp1", ""},
	{"POST /v1/devices/{id}/token", "/v1/devices/lamp1/token", "", 201, "RotateDevice lamp1 0s", `{"id":"lamp1","token":"ep_rotated"}`},
	{"PUT /v1/devices/{id}/seal", "/v1/devices/lamp1/seal", `{"form":"jwe","new":true}`, 200, "SetSeal lamp1 jwe false true", `{"id":"lamp1","seal":"jwe","seal_key":"630dcd29","key":{"kty":"oct"}}`},
	{"GET /v1/groups", "/v1/groups", "", 200, "Groups", `{"groups":[{"name":"hall","members":[]}]}`},
	{"POST /v1/groups", "/v1/groups", `{"name":"hall","label":"H"}`, 201, "AddGroup hall H", `{"name":"hall","label":"H","members":[]}`},
	{"GET /v1/groups/{name}", "/v1/groups/hall", "", 200, "Group hall", `{"name":"hall","members":[]}`},
	{"DELETE /v1/groups/{name}", "/v1/groups/hall", "", 204, "RemoveGroup hall", ""},
	{"PUT /v1/groups/{name}/devices/{id}", "/v1/groups/hall/devices/lamp1", "", 204, "Join hall lamp1", ""},
	{"DELETE /v1/groups/{name}/devices/{id}", "/v1/groups/hall/devices/lamp1", "", 204, "Leave hall lamp1", ""},
	{"GET /v1/keys", "/v1/keys", "", 200, "Keys", `{"keys":[]}`},
	{"POST /v1/keys", "/v1/keys", `{"name":"app","admin":true,"rules":{"subscribe":["#"]}}`, 201, "AddKey app true [#]", `{"name":"app","token":"ep_key"}`},
	{"GET /v1/keys/{name}", "/v1/keys/app", "", 200, "Key app", `{"name":"app","admin":true}`},
	{"DELETE /v1/keys/{name}", "/v1/keys/app", "", 204, "RemoveKey app", ""},
	{"GET /v1/dead", "/v1/dead?after=2&limit=1", "", 200, "DeadLetters 2 1", `"reason":"too many attempts","attempts":8,"at":"2027-01-15T08:00:00.000Z","message":{"seq":41,`},
	{"GET /v1/dead/{entry}", "/v1/dead/3", "", 200, "DeadLetter 3", `{"entry":3,"subscription":"device/lamp1","reason":"rejected","attempts":1}`},
	{"POST /v1/dead/{entry}/requeue", "/v1/dead/3/requeue", "", 201, "Requeue 3", `"seq":42`},
	{"GET /v1/status", "/v1/status", "", 200, "Status", `"uptime":90,`},
	{"GET /v1/access/check", "/v1/access/check?action=publish&topic=a", "", 200, "", `{"principal":"owner","action":"publish","topic":"a","allowed":true,"rule":"the owner may do everything"}`},

	{"POST /v1/devices/{id}/claim", "/v1/devices/lamp1/claim", "", 201, "MakeClaim lamp1", `{"id":"lamp1","claim":"BCDF-GHJK","qr":"edgepost:claim?code=BCDF-GHJK"}`},
	{"POST /v1/import/devices", "/v1/import/devices", "id,label\nlamp1,L\n", 201, "AddDevices 1", `{"devices":[{"id":"lamp1","token":""}]}`},
	{"GET /v1/profiles", "/v1/profiles", "", 200, "", `{"profiles":[{"name":"tasmota","about":"A",`},
	{"POST /v1/claim", "/v1/claim", `{"code":"bcdf ghjk"}`, 201, "Claim bcdf ghjk", `{"id":"lamp1","token":"ep_claimed"}`},
	{"GET /v1/join", "/v1/join", "", 200, "AtDoor", `{"open":true,"left":541,"waiting":[{"name":"lamp9","fingerprint":"0badcafe","via":"mqtt","from":"192.168.1.9","since":"2027-01-15T08:00:00Z",`},
	{"POST /v1/join", "/v1/join", "", 201, "AtDoor", `{"open":true,`},
	{"DELETE /v1/join", "/v1/join", "", 204, "CloseDoor", ""},
	{"POST /v1/join/{name}/approve", "/v1/join/lamp9/approve", `{"label":"L","groups":["hall"],"profile":"tasmota","fingerprint":"0badcafe"}`, 201, "Approve lamp9 L [hall] tasmota 0badcafe", `{"id":"lamp9","label":"L","groups":["hall"],"profile":"tasmota"}`},
	{"POST /v1/join/{name}/refuse", "/v1/join/lamp9/refuse", "", 204, "Refuse lamp9 ", ""},
	{"GET /v1/setup", "/v1/setup", "", 200, "", `{"needed":false,"gateway":"ep-test"}`},
	{"POST /v1/setup", tlsHost + "/v1/setup", `{"code":"BCDF-GHJK","name":"ann","password":"pw"}`, 201, "SetUp BCDF-GHJK ann pw", `{"principal":"user/ann","kind":"user","name":"ann","admin":false,"expires_in":1800}`},
	{"POST /v1/setup/code", "/v1/setup/code", "", 201, "NewSetupCode", `{"code":"BCDF-GHJK"}`},
	{"GET /v1/session", "/v1/session", "", 200, "", `{"principal":"owner","kind":"owner","admin":true}`},
	{"POST /v1/session", tlsHost + "/v1/session", `{"name":"ann","password":"pw"}`, 201, "SignIn ann pw", `"expires_in":1800`},
	{"DELETE /v1/session", tlsHost + "/v1/session", "", 204, "SignOut session-1", ""},
	{"GET /v1/users", "/v1/users", "", 200, "Users", `{"users":[{"name":"ann","admin":true}]}`},
	{"POST /v1/users", tlsHost + "/v1/users", `{"name":"bob","password":"pw"}`, 201, "AddUser bob false pw", `{"name":"bob"}`},
	{"GET /v1/users/{name}", "/v1/users/bob", "", 200, "User bob", `{"name":"bob"}`},
	{"PUT /v1/users/{name}", "/v1/users/bob", `{"admin":true}`, 204, "UpdateUser bob true", ""},
	{"DELETE /v1/users/{name}", "/v1/users/bob", "", 204, "RemoveUser bob", ""},
	{"PUT /v1/users/{name}/password", tlsHost + "/v1/users/bob/password", `{"present":"old","password":"new"}`, 204, "SetPassword bob old new ", ""},
	{"GET /v1/audit", "/v1/audit?after=3&limit=5", "", 200, "Audit 3 5", `{"records":[{"n":1,"action":"setup"},null]}`},
	{"POST /v1/devices/{id}/certificate", "/v1/devices/lamp1/certificate", `{"csr":"C","days":30}`, 201, "IssueCertificate lamp1 C 30", `{"device":"lamp1","serial":"4a","until":"0001-01-01T00:00:00Z","pem":"PEM"}`},
	{"DELETE /v1/devices/{id}/certificate", "/v1/devices/lamp1/certificate?serial=4a", "", 200, "RevokeCertificates lamp1 4a", `{"revoked":2}`},
	{"GET /v1/certificates", "/v1/certificates?device=lamp1", "", 200, "Certificates lamp1", `{"certificates":[{"device":"lamp1","serial":"4a",`},
	{"GET /v1/certificate", "/v1/certificate", "", 200, "ServedCertificate", `"fingerprint":"sha256/x"`},
	{"GET /v1/authority", "/v1/authority", "", 200, "Authority false", `{"pem":"PEM"}`},
	{"POST /v1/authority", "/v1/authority", "", 200, "Authority true", `{"pem":"PEM"}`},

	{"GET /v1/bridges", "/v1/bridges", "", 200, "Bridges", `{"bridges":[{"name":"central","kind":"mqtt","state":"connected","owed":3,"bytes":900,"in_flight":2,"oldest_age":1.5,"rate":0.5,"eta":6,"source":"api","counters":null}]}`},
	{"GET /v1/bridges/{name}", "/v1/bridges/central", "", 200, "Bridge central", `"state":"connected"`},
	{"PUT /v1/bridges/{name}", "/v1/bridges/central", `{"kind":"mqtt","urls":["mqtt://a"]}`, 200, "PutBridge central map[kind:mqtt urls:[mqtt://a]] false", `"state":"connected"`},
	{"PATCH /v1/bridges/{name}", "/v1/bridges/central", `{"up":{"window":2}}`, 200, "PutBridge central map[up:map[window:2]] true", `"state":"connected"`},
	{"DELETE /v1/bridges/{name}", "/v1/bridges/central", "", 204, "RemoveBridge central", ""},
	{"POST /v1/bridges/{name}/{do}", "/v1/bridges/central/rewind", `{"since":60}`, 200, "OrderBridge central rewind 1m0s -0 -0", `{"gap":true}`},

	{"GET /v1/oauth", "/v1/oauth", "", 200, "TokenKeys", `{"issuer":"https://gateway.local:8448","keys":[{"kid":"k1","state":"current","age":60}]}`},
	{"POST /v1/oauth/rotate", "/v1/oauth/rotate", `{"end_tokens":true}`, 204, "RotateTokenKeys true", ""},
	{"POST /v1/oauth/revoke", "/v1/oauth/revoke", `{"principal":"device/lamp1"}`, 204, "RevokeTokens device/lamp1", ""},
	{"GET /v1/oauth/device/{code}", "/v1/oauth/device/BCDF-GHJK", "", 200, "DeviceRequest BCDF-GHJK", `{"client_id":"panel","principal":"device/panel","scope":"","from":"192.168.1.9","expires_in":60}`},
	{"POST /v1/oauth/device/{code}/approve", "/v1/oauth/device/BCDF-GHJK/approve", `{"keep":true}`, 200, "ApproveDevice BCDF-GHJK true", `{"client_id":"panel"}`},
	{"POST /v1/oauth/device/{code}/refuse", "/v1/oauth/device/BCDF-GHJK/refuse", "", 204, "RefuseDevice BCDF-GHJK", ""},
	{"GET /device", "/device?user_code=BCDF-GHJK", "", 303, "", ""},

	{"GET /metrics", "/metrics", "", 200, "", "edgepost_published_total 5"},
	{"GET /healthz", "/healthz", "", 200, "", `{"status":"ok"}`},
	{"GET /openapi.yaml", "/openapi.yaml", "", 200, "", "openapi: 3.1.0"},
	{"GET /glance.json", "/glance.json", "", 200, "Status", `{"version":"v1.2","uptime":90,"storage":"ok","connected":2,"published":5,"delivered":0,"owed":0,"anonymous":true}`},
	{"GET /", "/", "", 418, "", ""},
	{"GET /assets/{file}", "/assets/app-1f.js", "", 418, "", ""},
	{"GET /v1/ws", "/v1/ws?anything=1", "", 418, "", ""},
	{"GET /v1/stream", "/v1/stream", "", 418, "", ""},
	{"POST /oauth2/token", "/oauth2/token", "", 418, "", ""},
	{"POST /oauth2/device_authorization", "/oauth2/device_authorization", "", 418, "", ""},
	{"POST /oauth2/revoke", "/oauth2/revoke", "", 418, "", ""},
	{"POST /oauth2/introspect", "/oauth2/introspect", "", 418, "", ""},
	{"GET /oauth2/jwks", "/oauth2/jwks", "", 418, "", ""},
	{"GET /.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server", "", 418, "", ""},
}, watching...)

var ce = []string{"ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: t"}

// tlsHost makes a request that came over TLS.
const tlsHost = "https://gateway.local"

// header is what a route's working request needs beside its body.
func header(route string) []string {
	switch route {
	case "POST /v1/import/devices":
		return []string{"Content-Type: text/csv"}
	case "DELETE /v1/session":
		return []string{"Cookie: __Host-ep=session-1"}
	case "POST /v1/messages":
		return ce
	}
	return nil
}

func table() []route {
	a := &api{}
	return append(a.routes(), mountRoutes(mounted(http.NotFoundHandler()))...)
}

func TestEveryRouteWorks(t *testing.T) {
	missing := make(map[string]bool)
	for _, rt := range table() {
		missing[rt.method+" "+rt.pattern] = true
	}
	for _, e := range every {
		delete(missing, e.route)
		s := start(t)
		method, _, _ := strings.Cut(e.route, " ")
		w := s.send(method, e.target, e.body, header(e.route)...)
		if w.Code != e.status || !strings.Contains(w.Body.String(), e.answer) || s.last() != e.asked {
			t.Errorf("%s: status %d, core asked %q, body %s", e.route, w.Code, s.last(), w.Body)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: a browser may guess the type", e.route)
		}
		if head := s.send("HEAD", e.target, ""); method == "GET" {
			leases := strings.HasSuffix(e.route, "}/messages") || e.route == "GET /v1/live" || e.route == "GET /v1/diagnostics"
			if mount := e.status == 418; (head.Code == 405) != (leases || mount) {
				t.Errorf("HEAD %s: %d", e.target, head.Code)
			}
		}
	}
	for m := range missing {
		t.Errorf("no test for %s", m)
	}
}

func TestEveryRouteNeedsCredentials(t *testing.T) {
	open := []string{"/glance.json", "/openapi.yaml", "/healthz", "/v1/certificate", "/device"}
	openRoutes := []string{"GET /v1/setup", "POST /v1/setup", "POST /v1/session", "POST /v1/claim"}
	for _, e := range every {
		s := start(t)
		s.authErr = message.Problemf(message.CodeUnauthorized, "unknown name or wrong token")
		method, pattern, _ := strings.Cut(e.route, " ")
		w := s.send(method, e.target, e.body, header(e.route)...)
		if e.status == http.StatusTeapot || slices.Contains(open, pattern) || slices.Contains(openRoutes, e.route) {
			if w.Code != e.status {
				t.Errorf("%s: status %d without credentials", e.route, w.Code)
			}
			continue
		}
		problem(t, w, message.CodeUnauthorized)
		if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="edgepost"` {
			t.Errorf("%s: WWW-Authenticate %q", e.route, got)
		}
		if s.last() != "" {
			t.Errorf("%s: the core was asked %q without credentials", e.route, s.last())
		}
	}
	s := start(t)
	s.authErr = message.Problemf(message.CodeUnauthorized, "wrong")
	w := s.send("GET", "/v1/status", "", "Authorization: Bearer ep_wrong")
	if got := w.Header().Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("a wrong token is not called so: %q", got)
	}
	problem(t, start(t).send("GET", "/v1/status", "", "Authorization: Digest x"), message.CodeUnauthorized)
}

// TestEveryRoutePassesProblemsOn lets the core fail with each code at each route.
func TestEveryRoutePassesProblemsOn(t *testing.T) {
	want := map[string]int{
		message.CodeBadRequest: 400, message.CodeBadTopic: 400, message.CodeBadFilter: 400, message.CodeBadName: 400,
		message.CodeBadJSON: 400, message.CodeBadUTF8: 400, message.CodeBadID: 400, message.CodeUnauthorized: 401,
		message.CodeForbidden: 403, message.CodeNotFound: 404, message.CodeUnknownDevice: 404, message.CodeUnknownGroup: 404,
		message.CodeExists: 409, message.CodeTakenOver: 409, message.CodeInFlight: 409, message.CodeNotDelivered: 409,
		message.CodeTooLarge: 413, message.CodeBadMediaType: 415, message.CodeKeyReused: 422, message.CodeTooMany: 429,
		message.CodeUnavailable: 503, message.CodeStorageFailed: 503, message.CodeStorageFull: 507, message.CodeQuota: 507,
		message.CodeTimeout: 504, message.CodeWaiting: 403, message.CodeLastAdmin: 409,
		message.CodeNotSealed: 403, message.CodeNotOpened: 403, message.CodeReplayed: 409,
	}
	retry := map[string]bool{message.CodeInFlight: true, message.CodeTooMany: true, message.CodeUnavailable: true, message.CodeStorageFailed: true, message.CodeWaiting: true}
	for _, e := range every {
		if e.asked == "" || e.route == "POST /v1/tickets" || e.route == "DELETE /v1/session" { // these cannot fail
			continue
		}
		method, _, _ := strings.Cut(e.route, " ")
		for code, status := range want {
			s := start(t)
			s.err = fmt.Errorf("ask the log: %w", message.Problemf(code, "the reason"))
			w := s.send(method, e.target, e.body, header(e.route)...)
			if p := problem(t, w, code); w.Code != status || p.Detail != "the reason" {
				t.Errorf("%s, %s: status %d, %+v", e.route, code, w.Code, p)
			}
			if (w.Header().Get("Retry-After") != "") != retry[code] {
				t.Errorf("%s, %s: Retry-After %q", e.route, code, w.Header().Get("Retry-After"))
			}
		}
		s := start(t)
		s.err = errors.New("open /data/secret: input/output error")
		w := s.send(method, e.target, e.body, header(e.route)...)
		p := problem(t, w, codeInternal)
		if strings.Contains(w.Body.String(), "secret") || p.Incident == "" || !strings.Contains(s.log.String(), p.Incident) || !strings.Contains(s.log.String(), "secret") {
			t.Errorf("%s: internal error: told %s, logged %s", e.route, w.Body, s.log)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	s := start(t)
	for _, path := range []string{
		"/v1", "/v1/", "/v1/nothing", "//", "/v1//messages", "/v1/publish%2Fa", "/v1/devices/a/b", "/v1/messages/x/y", "/healthz/",
		"/v1/bridges/a/b/c", "/v1/setup/x", "/v1/audit/1", "/v1/../v1/status",
	} {
		problem(t, s.send("GET", path, ""), message.CodeNotFound)
	}
	w := s.send("DELETE", "/v1/messages", "")
	problem(t, w, codeMethod)
	if got := w.Header().Get("Allow"); got != "GET, HEAD, OPTIONS, POST" {
		t.Errorf("Allow %q", got)
	}
	for _, e := range every {
		_, pattern, _ := strings.Cut(e.route, " ")
		if pattern == "/v1/bridges/{name}" {
			continue // has PATCH
		}
		w := s.send("PATCH", e.target, "")
		if problem(t, w, codeMethod); !strings.Contains(w.Header().Get("Allow"), "OPTIONS") {
			t.Errorf("%s: Allow %q", pattern, w.Header().Get("Allow"))
		}
		if w := s.send("OPTIONS", e.target, ""); w.Code != 204 || w.Header().Get("Allow") == "" || w.Header().Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("OPTIONS %s: %d %v", pattern, w.Code, w.Header())
		}
		if e.status == 418 {
			continue // a mount reads its own query
		}
		method, _, _ := strings.Cut(e.route, " ")
		sep := "?"
		if strings.Contains(e.target, "?") {
			sep = "&"
		}
		for _, q := range []string{"wiat=30s", "a=%zz", "a;b"} {
			if p := problem(t, s.send(method, e.target+sep+q, e.body, header(e.route)...), message.CodeBadRequest); q == "wiat=30s" && !strings.Contains(p.Detail, `"wiat"`) {
				t.Errorf("%s: the unknown parameter is not named: %s", e.route, p.Detail)
			}
		}
	}
}

func TestQueryParameters(t *testing.T) {
	s := start(t)
	for target, code := range map[string]string{
		"/v1/messages?topic=a&topic=b":                 message.CodeBadRequest,
		"/v1/messages?topic=%ff":                       message.CodeBadUTF8,
		"/v1/messages":                                 message.CodeBadFilter,
		"/v1/messages?topic=":                          message.CodeBadFilter,
		"/v1/messages?topic=a%23":                      message.CodeBadFilter,
		"/v1/messages?topic=a&after=12":                message.CodeBadID,
		"/v1/messages?topic=a&limit=0":                 message.CodeBadRequest,
		"/v1/messages?topic=a&limit=1001":              message.CodeBadRequest,
		"/v1/messages?topic=a&limit=-1":                message.CodeBadRequest,
		"/v1/messages?topic=a&limit=":                  message.CodeBadRequest,
		"/v1/messages?topic=a&wait=61":                 message.CodeBadRequest,
		"/v1/messages?topic=a&wait=soon":               message.CodeBadRequest,
		"/v1/messages?topic=a&wait=-1s":                message.CodeBadRequest,
		"/v1/messages/12":                              message.CodeBadID,
		"/v1/messages/k3f9w2xq-0":                      message.CodeBadID,
		"/v1/devices/a%2Fb":                            message.CodeBadName,
		"/v1/devices/%00/messages":                     message.CodeBadName,
		"/v1/devices/lamp1/messages?max=0":             message.CodeBadRequest,
		"/v1/devices/lamp1/messages?wait=2m":           message.CodeBadRequest,
		"/v1/subscriptions/":                           message.CodeBadName,
		"/v1/subscriptions/-x/messages":                message.CodeBadName,
		"/v1/groups/a%20b":                             message.CodeBadName,
		"/v1/keys/":                                    message.CodeBadName,
		"/v1/dead/x":                                   message.CodeBadRequest,
		"/v1/dead/0":                                   message.CodeBadRequest,
		"/v1/dead?after=-1":                            message.CodeBadRequest,
		"/v1/dead?limit=5000":                          message.CodeBadRequest,
		"/v1/access/check":                             message.CodeBadRequest,
		"/v1/access/check?action=receive&topic=a":      message.CodeBadRequest,
		"/v1/access/check?action=publish&topic=%23":    message.CodeBadTopic,
		"/v1/access/check?action=subscribe&topic=a%23": message.CodeBadFilter,
		"/v1/access/check?action=publish&topic=a&principal=device/none": message.CodeNotFound,
	} {
		if w := s.send("GET", target, ""); w.Code < 400 {
			t.Errorf("%s: %d", target, w.Code)
		} else {
			problem(t, w, code)
		}
	}
	if w := s.send("GET", "/v1/messages?topic=a&ticket=x", ""); w.Code != 200 {
		t.Errorf("a ticket is possible everywhere: %d %s", w.Code, w.Body)
	}
	s.send("GET", "/v1/messages?topic=a/%2B&after=k3f9w2xq-5&limit=7&wait=0", "")
	if want := (courier.Query{Filter: "a/+", After: mid(5), Limit: 7}); s.query != want {
		t.Errorf("the core was asked %+v, want %+v", s.query, want)
	}
}

func TestControlSocketNeedsNoCredentials(t *testing.T) {
	s := start(t)
	s.grant = auth.NewGrant(auth.Anonymous, "", false, message.Rules{})
	r := httptest.NewRequest("GET", "/v1/status", nil)
	r = r.WithContext(auth.WithGrant(r.Context(), auth.NewGrant(auth.Owner, "", true, message.Rules{})))
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("the owner got %d: %s", w.Code, w.Body)
	}
	problem(t, s.send("GET", "/v1/status", ""), message.CodeForbidden)
	problem(t, s.send("GET", "/metrics", ""), message.CodeUnauthorized)
	s.grant = auth.NewGrant(auth.Device, "lamp1", false, message.Rules{})
	problem(t, s.send("GET", "/metrics", ""), message.CodeForbidden)
}

func TestMountsOfFilesAnswerHead(t *testing.T) {
	s := start(t, func(o *Options) {
		for i := range o.Mounts {
			o.Mounts[i].Files = o.Mounts[i].Pattern == "/"
		}
	})
	if w := s.send("HEAD", "/", ""); w.Code != 418 {
		t.Errorf("HEAD /: %d", w.Code)
	}
	problem(t, s.send("HEAD", "/v1/ws", ""), codeMethod)
}

func TestOptions(t *testing.T) {
	w := start(t).send("OPTIONS", "/v1/publish/a", "")
	if w.Code != 204 || w.Header().Get("Allow") != "OPTIONS, POST" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestHealth(t *testing.T) {
	s := start(t)
	s.health = errors.New("write /data/outbox: input/output error")
	w := s.send("GET", "/healthz", "")
	if problem(t, w, message.CodeUnavailable); strings.Contains(w.Body.String(), "/data") || !strings.Contains(s.log.String(), "/data") {
		t.Errorf("told %s, logged %s", w.Body, s.log)
	}
	s.health = message.Problemf(message.CodeStorageFull, "the log is full")
	problem(t, s.send("GET", "/healthz", ""), message.CodeStorageFull)
}

func TestGlanceIsComputedOncePerSecond(t *testing.T) {
	s := start(t)
	for range 50 {
		if w := s.send("GET", "/glance.json", ""); w.Code != 200 {
			t.Fatal(w.Code)
		}
	}
	if n := len(s.calls); n > 5 {
		t.Errorf("50 looks asked the core %d times", n)
	}
	a := &api{}
	if b, err := a.encodeGlance(&courier.Status{Storage: "no space left on /dev/mmcblk0p2"}); err != nil || strings.Contains(string(b), "mmcblk") || !strings.Contains(string(b), "refusing") {
		t.Errorf("%s %v: the public status names the disk, or hides that it refuses", b, err)
	}
}

func TestAccessCheck(t *testing.T) {
	s := start(t)
	for target, want := range map[string]string{
		"?principal=device/lamp1&action=publish&topic=device/lamp1/out/x":      `"allowed":true,"rule":"publish device/lamp1/out/#"`,
		"?principal=device/lamp1&action=publish&topic=device/lamp2/out/x":      `"allowed":false,"rule":"no rule allows it"`,
		"?principal=device/lamp1&action=publish&topic=$edge/x":                 `"allowed":false,"rule":"topics that begin with $`,
		"?principal=device/lamp1&action=subscribe&topic=device/lamp1/in/%23":   `"allowed":true,"rule":"subscribe device/lamp1/in/#"`,
		"?principal=device/lamp1&action=subscribe&topic=%23":                   `"allowed":false`,
		"?principal=device/lamp1&action=subscribe&topic=$edge/receipt/lamp1/+": `"allowed":true,"rule":"everybody may read`,
		"?action=subscribe&topic=%23":                                          `"principal":"owner","action":"subscribe","topic":"#","allowed":true`,
	} {
		if w := s.send("GET", "/v1/access/check"+target, ""); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	s.grant = auth.NewGrant(auth.Key, "app", false, message.Rules{Publish: []message.Filter{"#"}, DenyPublish: []message.Filter{"b/#", "a/+"}})
	if w := s.send("GET", "/v1/access/check?action=publish&topic=a/1", ""); !strings.Contains(w.Body.String(), `"allowed":false,"rule":"deny_publish a/+"`) {
		t.Errorf("%s", w.Body)
	}
	problem(t, s.send("GET", "/v1/access/check?principal=device/lamp1&action=publish&topic=a", ""), message.CodeForbidden)
	if w := s.send("GET", "/v1/access/check?principal=key/app&action=publish&topic=a", ""); w.Code != 200 {
		t.Errorf("asking about oneself: %d", w.Code)
	}
}

func TestDefaults(t *testing.T) {
	h, ok := New(Options{Core: newFake(), MaxMessage: 1 << 40, MaxBatch: 1 << 40}).(*api)
	if !ok {
		t.Fatal("New made something else")
	}
	now, trusted := h.Now()
	if h.MaxMessage != message.MaxPayload || h.MaxBatch != 8<<20 || h.Gateway() != "edgepost" || now.IsZero() || !trusted || h.Log == nil {
		t.Errorf("%+v", h.Options)
	}
}
