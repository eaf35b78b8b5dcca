package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

func TestReadDevices(t *testing.T) {
	list, lines, err := readDevices([]byte("\uFEFFProfile, ID ,groups\r\ntasmota,plug1,\"hall; attic\"\r\n\r\n,\"lamp1\",\r\n"))
	if err != nil || len(list) != 2 || fmt.Sprint(lines) != "[2 4]" {
		t.Fatalf("%+v at %v, %v", list, lines, err)
	}
	if e := list[0]; e.ID != "plug1" || e.Profile != "tasmota" || fmt.Sprint(e.Groups) != "[hall attic]" || list[1].ID != "lamp1" || len(list[1].Groups) > 0 {
		t.Errorf("%+v", list)
	}
	for text, want := range map[string]string{
		"":               "empty",
		"id":             "no device",
		"id,id\nx,y\n":   "line 1: the column id",
		"label\nx\n":     "line 1: the column id is missing",
		"id,what\nx,y\n": "line 1: there is no column",
		"id,label\nx\n":  "line 2: ",
		"id\na\n\"b\n":   "line 3: ",
		"id\n\xff\n":     "UTF-8",
		"id\n" + strings.Repeat("x\n", registry.MaxEnrol+1): "at most",
	} {
		_, _, err := readDevices([]byte(text))
		if p := message.ProblemOf(err); p == nil || !strings.Contains(p.Detail, want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestImportNamesTheLine(t *testing.T) {
	s := start(t)
	s.row = &registry.RowError{Row: 1, Err: message.Problemf(message.CodeExists, "it is there")}
	w := s.send("POST", "/v1/import/devices", "id\na\n\nb\n", "Content-Type: text/csv")
	if p := problem(t, w, message.CodeExists); !strings.HasPrefix(p.Detail, "line 4: it is there") {
		t.Errorf("%+v", p)
	}
	problem(t, start(t).send("POST", "/v1/import/devices", "id\na\n"), message.CodeBadMediaType)
	problem(t, start(t).send("POST", "/v1/import/devices", strings.Repeat("x", maxImport+1), "Content-Type: text/csv"), message.CodeTooLarge)
}

func FuzzReadDevices(f *testing.F) {
	f.Add([]byte("id,label,groups,token,profile\nlamp1,L,hall attic,,tasmota\n"))
	f.Add([]byte("\uFEFFid\n\"a\nb\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, lines, err := readDevices(text)
		if err != nil && message.ProblemOf(err) == nil {
			t.Fatalf("%v is no problem", err)
		}
		if len(list) != len(lines) && err == nil {
			t.Fatalf("%d devices, %d lines", len(list), len(lines))
		}
	})
}

// What a signed-in person's request may do over a connection that others read.
func TestPasswordsNeedAPrivateConnection(t *testing.T) {
	for route, body := range map[string]string{
		"POST /v1/setup": `{"code":"x","name":"ann","password":"pw"}`, "POST /v1/session": `{"name":"ann","password":"pw"}`,
		"POST /v1/users": `{"name":"bob","password":"pw"}`, "PUT /v1/users/bob/password": `{"password":"pw"}`,
	} {
		s := start(t)
		method, path, _ := strings.Cut(route, " ")
		p := problem(t, s.send(method, path, body), message.CodeForbidden)
		if s.last() != "" || !strings.Contains(p.Detail, "HTTPS") {
			t.Errorf("%s: the core was asked %q, %s", route, s.last(), p.Detail)
		}
	}
	s := start(t)
	problem(t, s.send("DELETE", tlsHost+"/v1/session", ""), message.CodeBadRequest)
}

func TestSetUpIsAskedFor(t *testing.T) {
	s := start(t)
	s.newborn, s.authErr = true, message.Problemf(message.CodeUnauthorized, "who are you")
	if p := problem(t, s.send("GET", "/v1/devices", ""), message.CodeUnauthorized); !strings.Contains(p.Detail, "/v1/setup") {
		t.Errorf("%+v", p)
	}
	if p := problem(t, s.send("GET", "/v1/devices", "", "Authorization: Bearer x"), message.CodeUnauthorized); strings.Contains(p.Detail, "/v1/setup") {
		t.Errorf("a wrong token is told of set-up: %+v", p)
	}
	if p := problem(t, s.send("GET", "/v1/messages?topic=a", ""), message.CodeUnauthorized); strings.Contains(p.Detail, "/v1/setup") {
		t.Errorf("a reader is told of set-up: %+v", p)
	}
	if w := s.send("GET", "/v1/setup", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"needed":true`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestDeviceFieldsStayWhereTheyBelong(t *testing.T) {
	for route, body := range map[string]string{
		"PUT /v1/devices/lamp1": `{"claim":true}`, "POST /v1/devices": `{"id":"lamp1","fingerprint":"00"}`, "POST /v1/join/lamp1/approve": `{"claim":true}`,
	} {
		method, path, _ := strings.Cut(route, " ")
		problem(t, start(t).send(method, path, body), message.CodeBadJSON)
	}
	problem(t, start(t).send("POST", "/v1/join/lamp1/approve", `{"id":"lamp2"}`), message.CodeBadRequest)
	if w := start(t).send("POST", "/v1/devices", `{"id":"lamp1","claim":true}`); w.Code != 201 || !strings.Contains(w.Body.String(), `"claim":"BCDF-GHJK"`) || strings.Contains(w.Body.String(), "ep_") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, minutes := range []string{"-1", "61"} {
		problem(t, start(t).send("POST", "/v1/join", `{"minutes":`+minutes+`}`), message.CodeBadRequest)
	}
}
