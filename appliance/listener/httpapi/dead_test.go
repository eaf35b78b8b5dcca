package httpapi

import (
	"testing"

	"edgepost/appliance/message"
)

func TestEditedRequeue(t *testing.T) {
	s := start(t)
	w := s.send("POST", "/v1/dead/3/requeue", `{"topic":"a/b","data":{"on": true},"ttl":"10m","priority":9}`)
	if w.Code != 201 || s.last() != "RequeueEdited 3" {
		t.Fatalf("%d, %s: %s", w.Code, s.last(), w.Body)
	}
	e := s.edit
	if *e.Topic != "a/b" || string(e.Payload) != `{"on": true}` || *e.ContentType != "application/json" || e.TTL.Minutes() != 10 || *e.Priority != 9 {
		t.Errorf("edit %+v", e)
	}
	s.send("POST", "/v1/dead/3/requeue", `{"text":"","ct":"text/plain"}`)
	if e := s.edit; e.Payload == nil || len(e.Payload) != 0 || *e.ContentType != "text/plain" || e.Topic != nil || e.TTL != nil || e.Priority != nil {
		t.Errorf("an empty payload: %+v", e)
	}
	s.send("POST", "/v1/dead/3/requeue", `{"data_base64":"/w=="}`)
	if e := s.edit; string(e.Payload) != "\xff" || e.ContentType != nil {
		t.Errorf("binary: %+v", e)
	}
	if s.send("POST", "/v1/dead/3/requeue", `{}`); s.last() != "Requeue 3" {
		t.Errorf("nothing to change: %s", s.last())
	}
	for body, code := range map[string]string{
		`{"data":1,"text":"x"}`: message.CodeBadRequest,
		`{"topic":"a/#"}`:       message.CodeBadTopic,
		`{"data_base64":"%"}`:   message.CodeBadJSON,
		`{"priority":300}`:      message.CodeBadJSON,
		`{"reason":"x"}`:        message.CodeBadJSON,
	} {
		problem(t, s.send("POST", "/v1/dead/3/requeue", body), code)
	}
	problem(t, s.send("POST", "/v1/dead/requeue", `{"rate":0}`), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/dead/requeue", `{"rate":1001}`), message.CodeBadRequest)
	if s.send("POST", "/v1/dead/requeue", `{}`); s.last() != "RequeueAll  10" {
		t.Errorf("the default is %s", s.last())
	}
}
