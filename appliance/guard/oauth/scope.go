package oauth

import (
	"slices"
	"strings"

	"edgepost/appliance/message"
)

// AdminScope is the scope whose tokens may administer, where their subject may.
const AdminScope = "admin"

const (
	publishScope   = "publish:"
	subscribeScope = "subscribe:"
	maxScopes      = 32
	maxScope       = 2 << 10 // bytes of all
)

// Scope is what a client asks of a token (RFC 6749 §3.3): words with blanks between them. "admin" asks for the right to
// administer; "publish:FILTER" and "subscribe:FILTER" narrow the token to those filters. Without any it does all that its subject may,
// but administer.
type Scope struct {
	Text  string // as it was asked for, in order and without repetitions
	Admin bool
	rules []aclRule
}

// aclRule is a rule as the claim acl has it (EMQX's form).
type aclRule struct {
	Permission string `json:"permission"`
	Action     string `json:"action"`
	Topic      string `json:"topic"`
}

// ParseScope reads a scope; the error is an [Error] with invalid_scope.
func ParseScope(s string) (Scope, error) {
	var out Scope
	words := strings.Fields(s)
	if len(s) > maxScope || len(words) > maxScopes {
		return out, Errorf(InvalidScope, "the scope has more than %d words or %d bytes", maxScopes, maxScope)
	}
	var kept []string
	for _, w := range words {
		if slices.Contains(kept, w) {
			continue
		}
		kept = append(kept, w)
		action, filter, found := strings.Cut(w, ":")
		switch {
		case w == AdminScope:
			out.Admin = true
			continue
		case !found || action+":" != publishScope && action+":" != subscribeScope || !plain(w):
			return out, Errorf(InvalidScope, "%.40q is not a scope; there are admin, publish:FILTER and subscribe:FILTER", w)
		}
		if _, err := message.ParseFilter(filter); err != nil {
			return out, Errorf(InvalidScope, "%.80q has no topic filter behind the colon", w)
		}
		out.rules = append(out.rules, aclRule{"allow", action, filter})
	}
	out.Text = strings.Join(kept, " ")
	return out, nil
}

// plain reports whether the word has only signs that a scope may have, and no placeholder of the claim acl.
func plain(w string) bool {
	for i := range len(w) {
		if c := w[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '$' {
			return false
		}
	}
	return true
}
