package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// api is an HTTP client of one gateway with one credential.
type api struct {
	g     *gateway
	token string
	http  *http.Client
}

func (g *gateway) api(token string) *api {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &api{g: g, token: token, http: &http.Client{Transport: tr, Timeout: 40 * time.Second}}
}

// answer is one HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is application/problem+json.
type problem struct {
	Status int
	Code   string
	Detail string
}

// stored is the answer to a publish.
type stored struct {
	ID            string
	Seq           uint64
	Epoch         string
	Subscriptions int
	States        []place
}

// place is where a message stands for one subscription.
type place struct {
	Subscription string
	State        string
	Reason       string
	Attempt      int
}

// do makes one request; headers are pairs. The error is only about the connection.
func (a *api) do(method, path string, body []byte, headers ...string) (answer, error) {
	req, err := http.NewRequest(method, "http://"+a.g.addr+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := a.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return answer{res.StatusCode, res.Header, b}, err
}

// want makes a request that must be answered with the status; v, unless nil, gets the body.
func (a *api) want(t *testing.T, status int, v any, method, path string, body []byte, headers ...string) answer {
	t.Helper()
	res, err := a.do(method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if res.status != status {
		t.Fatalf("%s %.200s: status %d, want %d: %.500s", method, path, res.status, status, res.body)
	}
	if v != nil {
		if err := json.Unmarshal(res.body, v); err != nil {
			t.Fatalf("%s %s: %v in %.500s", method, path, err, res.body)
		}
	}
	return res
}

// refused makes a request that must be answered with a problem of that status and code.
func (a *api) refused(t *testing.T, status int, code, method, path string, body []byte, headers ...string) problem {
	t.Helper()
	var p problem
	res := a.want(t, status, &p, method, path, body, headers...)
	if ct := res.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("%s %.200s: content type %q of a problem", method, path, ct)
	}
	if p.Code != code || p.Status != status || p.Detail == "" {
		t.Errorf("%s %.200s: problem %+v, want code %q with a detail", method, path, p, code)
	}
	return p
}

// publish publishes text and expects it stored.
func (a *api) publish(t *testing.T, topic, text string, headers ...string) stored {
	t.Helper()
	var s stored
	a.want(t, http.StatusCreated, &s, http.MethodPost, "/v1/publish/"+topic, []byte(text), headers...)
	if s.ID == "" || s.ID != fmt.Sprintf("%s-%d", s.Epoch, s.Seq) {
		t.Fatalf("publish to %s answered %+v", topic, s)
	}
	return s
}

// trace asks where a message stands.
func (a *api) trace(t *testing.T, id string) map[string]place {
	t.Helper()
	var tr struct{ States []place }
	a.want(t, http.StatusOK, &tr, http.MethodGet, "/v1/messages/"+id, nil)
	places := make(map[string]place, len(tr.States))
	for _, p := range tr.States {
		places[p.Subscription] = p
	}
	return places
}
