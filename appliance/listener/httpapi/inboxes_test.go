package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"edgepost/appliance/message"
)

func TestPreview(t *testing.T) {
	long := strings.Repeat("灯", 200) // 600 bytes: the cut falls inside a sign
	for _, c := range []struct{ in, text, binary string }{
		{"", "", ""},
		{"on", "on", ""},
		{long, strings.Repeat("灯", 85), ""},
		{"a\x00b", "", "a\x00b"},
		{"\xff\xfe", "", "\xff\xfe"},
		{strings.Repeat("\xff", 300), "", strings.Repeat("\xff", 256)},
	} {
		if text, binary := preview([]byte(c.in)); text != c.text || string(binary) != c.binary {
			t.Errorf("of %.20q: %q, %q", c.in, text, binary)
		}
	}
}

func TestQueueRefuses(t *testing.T) {
	for _, c := range []struct{ method, target, body, code string }{
		{http.MethodPut, "/v1/devices/lamp1/queue/k3f9w2xq-41", `{}`, message.CodeBadRequest},
		{http.MethodPut, "/v1/devices/lamp1/queue/k3f9w2xq-41", `{"priority":10}`, message.CodeBadRequest},
		{http.MethodPut, "/v1/devices/lamp1/queue/k3f9w2xq-41", `{"priority":-1}`, message.CodeBadJSON},
		{http.MethodPut, "/v1/devices/lamp1/queue/41", `{"priority":1}`, message.CodeBadID},
		{http.MethodDelete, "/v1/devices/%20/queue/k3f9w2xq-41", "", message.CodeBadName},
		{http.MethodGet, "/v1/devices/lamp1/queue?limit=0", "", message.CodeBadRequest},
		{http.MethodGet, "/v1/devices?state=asleep", "", message.CodeBadRequest},
		{http.MethodPost, "/v1/reach", `{"topic":"a/#"}`, message.CodeBadTopic},
	} {
		s := start(t)
		problem(t, s.send(c.method, c.target, c.body), c.code)
		if s.last() != "" {
			t.Errorf("%s %s: the core was asked %s", c.method, c.target, s.last())
		}
	}
}
