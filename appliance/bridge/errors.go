package bridge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
)

// Class says what can help against an error.
type Class uint8

const (
	// Temporary is of the connection or the upstream; it is tried again after a backoff, and no message is to blame.
	Temporary Class = iota
	// Doubtful says that the upstream failed at this message, but may fail at every one (HTTP 500). It counts as a try of
	// the message only when others pass meanwhile.
	Doubtful
	// Refused says that the upstream does not take this message now; another try may help.
	Refused
	// Rejected says that it will never take this message.
	Rejected
	// Configuration says that nothing helps before somebody changes something, here or upstream. It is still tried again,
	// with the longest waits: the change may come from the other side.
	Configuration
)

func (c Class) String() string {
	switch c {
	case Doubtful:
		return "doubtful"
	case Refused:
		return "refused"
	case Rejected:
		return "rejected"
	case Configuration:
		return "configuration"
	default:
		return "temporary"
	}
}

// Error is an error of an upstream with what can help.
type Error struct {
	Class Class
	After time.Duration // the upstream asks to wait so long; 0: nothing said
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error]; %w keeps a cause.
func Errorf(c Class, format string, args ...any) *Error {
	return &Error{Class: c, Err: fmt.Errorf(format, args...)}
}

// Classify returns err as an [Error]: one in its chain, or a guess at what can help from the causes that all
// protocols share, with what to do in words.
func Classify(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		if _, same := err.(*Error); same { //nolint:errorlint // only to keep what was wrapped around it
			return e
		}
		return &Error{Class: e.Class, After: e.After, Err: err}
	}
	switch {
	case isType[*x509.UnknownAuthorityError](err), isType[x509.UnknownAuthorityError](err):
		return Errorf(Configuration, "%w; name the authority with ca_file", err)
	case isType[x509.HostnameError](err):
		return Errorf(Configuration, "%w; write the name in the certificate into urls, or into server_name", err)
	case isType[x509.CertificateInvalidError](err):
		return Errorf(Configuration, "%w; look at the upstream's certificate and at this gateway's clock", err)
	case isType[tls.RecordHeaderError](err):
		return Errorf(Configuration, "%w; the port does not speak TLS: look at the scheme and port in urls", err)
	case alerted(err):
		return Errorf(Configuration, "%w; the upstream refuses the TLS connection: does it want a client certificate (cert_file, key_file), and one by an authority that it knows?", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return Errorf(Configuration, "%w", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Errorf(Temporary, "%w; nothing listens there: is the upstream running, is the port right?", err)
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok && d.IsNotFound {
		return Errorf(Temporary, "%w; look at the host in urls, and at the gateway's DNS", err)
	}
	return &Error{Class: Temporary, Err: err}
}

// Refuses says that the upstream does not let this user in.
func Refuses(user string, err error) error {
	return Errorf(Configuration, "the broker refuses user %q: %w; look at username, password_file or token_file", user, err)
}

// Forbids says that the user is let in, and may not do this.
func Forbids(err error) error {
	return Errorf(Configuration, "%w; the broker's access rules forbid it to this user", err)
}

// Misses says that a queue or topic is not there.
func Misses(err error) error {
	return Errorf(Configuration, "%w; create it, or look at up.to and down.from", err)
}

// HangsUp says that the upstream ends the connection before a word of the protocol was understood.
func HangsUp(protocol string, err error) error {
	if isType[*Error](err) || alerted(err) {
		return Classify(err)
	}
	return Errorf(Temporary, "the broker ends the connection at its start: %w; is it %s there, with or without TLS as the scheme says?", err, protocol)
}

// alerted reports whether the other side ended TLS with an alert. With TLS 1.3 that comes with the first answer, when the
// handshake is over here: a connector reads it, and its library may keep no more than the words (crypto/tls has no
// exported type for it). An internal error may pass.
func alerted(err error) bool {
	s := err.Error()
	return strings.Contains(s, "remote error: tls: ") && !strings.Contains(s, "remote error: tls: internal error")
}

func isType[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// words is an error on one line, of a length that a page can show.
func words(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "…"
	}
	return s
}

const maxWords = 500
