package oauth

import "fmt"

// Codes of an [Error].
const (
	InvalidRequest       = "invalid_request" // RFC 6749 §5.2
	InvalidClient        = "invalid_client"
	InvalidGrant         = "invalid_grant"
	UnauthorizedClient   = "unauthorized_client"
	UnsupportedGrantType = "unsupported_grant_type"
	InvalidScope         = "invalid_scope"

	AuthorizationPending = "authorization_pending" // RFC 8628 §3.5
	SlowDown             = "slow_down"
	AccessDenied         = "access_denied"
	ExpiredToken         = "expired_token"

	UnsupportedTokenType   = "unsupported_token_type"  // RFC 7009 §2.2.1
	TemporarilyUnavailable = "temporarily_unavailable" // RFC 6749 §4.1.2.1: with 503 or 429
)

// Error is what a client is told. It carries no secret.
type Error struct {
	Code        string
	Description string // printable ASCII without " and \ (RFC 6749 §5.2)
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

// Errorf makes an [Error]. Signs that a description must not have become ' or ?.
func Errorf(code, format string, args ...any) *Error {
	b := []byte(fmt.Sprintf(format, args...))
	for i, c := range b {
		switch {
		case c == '"' || c == '\\':
			b[i] = '\''
		case c < ' ' || c > '~':
			b[i] = '?'
		}
	}
	return &Error{code, string(b)}
}
