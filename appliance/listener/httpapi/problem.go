package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// Codes that only HTTP has, beside those of package message.
const (
	codeMethod   = "method-not-allowed"
	codeSlowBody = "request-timeout"
	codeInternal = "internal"
)

// statusOf returns the HTTP status of a problem's code (DESIGN §8).
func statusOf(code string) int {
	switch code {
	case message.CodeBadRequest, message.CodeBadTopic, message.CodeBadFilter, message.CodeBadName,
		message.CodeBadJSON, message.CodeBadUTF8, message.CodeBadID:
		return http.StatusBadRequest
	case message.CodeUnauthorized:
		return http.StatusUnauthorized
	case message.CodeForbidden, message.CodeWaiting, message.CodeNotSealed, message.CodeNotOpened:
		return http.StatusForbidden
	case message.CodeNotFound, message.CodeUnknownDevice, message.CodeUnknownGroup:
		return http.StatusNotFound
	case codeMethod:
		return http.StatusMethodNotAllowed
	case codeSlowBody:
		return http.StatusRequestTimeout
	case message.CodeExists, message.CodeTakenOver, message.CodeInFlight, message.CodeNotDelivered, message.CodeLastAdmin, message.CodeReplayed:
		return http.StatusConflict
	case message.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case message.CodeBadMediaType:
		return http.StatusUnsupportedMediaType
	case message.CodeKeyReused:
		return http.StatusUnprocessableEntity
	case message.CodeTooMany:
		return http.StatusTooManyRequests
	case message.CodeUnavailable, message.CodeStorageFailed:
		return http.StatusServiceUnavailable
	case message.CodeStorageFull, message.CodeQuota:
		return http.StatusInsufficientStorage
	case message.CodeTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// retryAfter is how many seconds a client should wait before it tries again; 0: no such advice.
func retryAfter(code string) int {
	switch code {
	case message.CodeInFlight:
		return 1 // longer than an fsync on slow flash
	case message.CodeTooMany, message.CodeUnavailable:
		return 2 // a restart, or two refills of the sign-in throttle
	case message.CodeStorageFailed:
		return 5 // the log's first retries are done by then
	case message.CodeWaiting:
		return 10 // a person reads and decides
	}
	return 0
}

// problemJSON is the body of an error (RFC 9457 §3). With the type about:blank the title is the
// status phrase; what programs branch on is the code.
type problemJSON struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Code     string `json:"code"`
	Index    *int   `json:"index,omitempty"`
	Incident string `json:"incident,omitempty"`
}

// WriteProblem answers a request with an error. An error without a [message.Problem] in its chain is
// internal: it goes to the log under an incident number, and only the number to the client.
func WriteProblem(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	body := problemJSON{Type: "about:blank"}
	if i, ok := indexOf(err); ok {
		body.Index = &i
	}
	switch p := message.ProblemOf(err); {
	case p != nil:
		body.Code, body.Detail = p.Code, p.Detail
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		// Either the client is gone and nobody reads this, or the appliance is stopping.
		body.Code, body.Detail = message.CodeUnavailable, "the gateway is stopping; try again soon"
	case errors.Is(err, context.DeadlineExceeded):
		body.Code, body.Detail = message.CodeTimeout, "the answer took too long; what was asked may still happen"
	default:
		body.Code, body.Incident = codeInternal, rand.Text()[:8]
		body.Detail = "something went wrong inside; the log has it under incident " + body.Incident
		log.Error("request failed", "incident", body.Incident, "method", r.Method, "path", r.URL.Path, "error", err)
	}
	body.Status = statusOf(body.Code)
	body.Title = http.StatusText(body.Status)
	h := w.Header()
	if s := retryAfter(body.Code); s > 0 {
		h.Set("Retry-After", strconv.Itoa(s))
	}
	if body.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(r))
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(body.Status)
	b, _ := json.Marshal(&body) // strings and integers: it cannot fail
	_, _ = w.Write(append(b, '\n'))
}

// challenge is RFC 6750 §3: the error attribute only when a credential was presented. Basic works
// too but is not offered, because browsers would open their own sign-in window.
func challenge(r *http.Request) string {
	if r.Header.Get("Authorization") == "" {
		return `Bearer realm="edgepost"`
	}
	return `Bearer realm="edgepost", error="invalid_token"`
}

// indexOf finds which message of a batch was refused.
func indexOf(err error) (int, bool) {
	if e := (*courier.BatchError)(nil); errors.As(err, &e) {
		return e.Index, true
	}
	if e := (*codec.IndexError)(nil); errors.As(err, &e) {
		return e.Index, true
	}
	return 0, false
}
