package message

import (
	"errors"
	"fmt"
)

// Codes of a [Problem]. They are part of every interface: HTTP's problem+json, the WebSocket's
// error object and the command line show the same word, and clients branch on it.
const (
	CodeBadRequest    = "bad-request"
	CodeBadTopic      = "bad-topic"
	CodeBadFilter     = "bad-filter"
	CodeBadName       = "bad-name"
	CodeBadJSON       = "bad-json"
	CodeBadUTF8       = "bad-utf8"
	CodeBadID         = "bad-id"
	CodeUnauthorized  = "unauthorized"
	CodeForbidden     = "forbidden"
	CodeNotFound      = "not-found"
	CodeUnknownDevice = "unknown-device"
	CodeUnknownGroup  = "unknown-group"
	CodeExists        = "exists"
	CodeTakenOver     = "taken-over"
	CodeInFlight      = "in-flight"     // the idempotency key's first request is still running
	CodeKeyReused     = "key-reused"    // the idempotency key came before with another body
	CodeNotDelivered  = "not-delivered" // an ack for something this subscription was not sent
	CodeTooLarge      = "too-large"
	CodeBadMediaType  = "bad-media-type"
	CodeQuota         = "quota-exceeded" // the addressed subscription holds its whole share of the log
	CodeTooMany       = "too-many"       // a rate or connection limit; try later
	CodeUnavailable   = "unavailable"    // stopping, or not yet started
	CodeStorageFull   = "storage-full"
	CodeStorageFailed = "storage-failed"
	CodeTimeout       = "timeout"
	CodeWaiting       = "waiting"    // a person has to approve the device first; try again
	CodeLastAdmin     = "last-admin" // somebody must remain who may administer
	CodeNotSealed     = "not-sealed" // the device's payloads are sealed, this one is plain
	CodeNotOpened     = "not-opened" // the sealed payload is damaged, for another topic or of another key
	CodeReplayed      = "replayed"   // the sealed payload came before
)

// Problem is an error that a person or a program outside can act on: a stable code and a sentence
// that names what, where and what to do. It never carries a secret.
type Problem struct {
	Code   string
	Detail string
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Problemf makes a [Problem].
func Problemf(code, format string, args ...any) *Problem {
	return &Problem{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// ProblemOf returns the [Problem] in err's chain, or nil.
func ProblemOf(err error) *Problem {
	p, _ := errors.AsType[*Problem](err)
	return p
}
