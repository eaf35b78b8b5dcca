package httpapi

import (
	"net/http"
	"net/url"
	"sort"
	"strings"
)

// route is one line of the table: what the OpenAPI file describes.
type route struct {
	method  string
	pattern string   // "{name}" is one segment, a last "{name...}" the rest of the path, slashes included
	query   []string // parameters it knows; all others are refused
	open    bool     // answers without credentials
	admin   bool     // administration: it is audited, and before set-up it says so
	leases  bool     // a GET that takes something or never ends: it has no HEAD
	serve   func(*call) error
	mount   http.Handler // serves instead
}

// maxParams is the most placeholders in one pattern.
const maxParams = 2

// resource is all routes of one pattern.
type resource struct {
	segments []string
	routes   []route
	allow    string // value of the Allow header
}

func (s *resource) byMethod(method string) *route {
	for i := range s.routes {
		rt := &s.routes[i]
		if rt.method == method || method == http.MethodHead && rt.hasHead() {
			return rt
		}
	}
	return nil
}

func (rt *route) hasHead() bool {
	return rt.method == http.MethodGet && !rt.leases
}

// compile groups the routes by pattern, in the order of the table.
func compile(routes []route) []resource {
	var rs []resource
	at := make(map[string]int)
	for _, rt := range routes {
		i, ok := at[rt.pattern]
		if !ok {
			i = len(rs)
			at[rt.pattern] = i
			rs = append(rs, resource{segments: strings.Split(rt.pattern[1:], "/")})
		}
		rs[i].routes = append(rs[i].routes, rt)
	}
	for i := range rs {
		allow := []string{http.MethodOptions}
		for _, rt := range rs[i].routes {
			allow = append(allow, rt.method)
			if rt.hasHead() {
				allow = append(allow, http.MethodHead)
			}
		}
		sort.Strings(allow)
		rs[i].allow = strings.Join(allow, ", ")
	}
	return rs
}

// find returns the resource at an escaped path and puts the values of its placeholders, unescaped,
// into the call.
func find(rs []resource, path string, c *call) (*resource, bool) {
	for i := range rs {
		if rs[i].match(path, &c.params) {
			return &rs[i], true
		}
	}
	return nil, false
}

func (s *resource) match(path string, params *[maxParams]string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return false
	}
	n := 0
	for i, want := range s.segments {
		last := i == len(s.segments)-1
		got, after, more := strings.Cut(rest, "/")
		switch {
		case strings.HasSuffix(want, "...}"):
			got, more = rest, false
		case more == last:
			return false
		}
		if want == "" || want[0] != '{' {
			if got != want {
				return false
			}
		} else {
			value, err := url.PathUnescape(got)
			if err != nil {
				return false
			}
			params[n] = value
			n++
		}
		rest = after
		if last {
			return !more
		}
	}
	return false
}
