package httpapi

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"edgepost/appliance/message"
)

// TestOpenAPIAndRoutesAgree holds the file against the table, both ways: paths, methods, query
// parameters and who needs credentials. It reads the YAML by its indentation.
func TestOpenAPIAndRoutesAgree(t *testing.T) {
	text := string(openAPIFile)
	named := make(map[string]string) // shared query parameters: key → name
	for _, m := range regexp.MustCompile(`(?m)^    (\w+): \{name: ([\w-]+), in: query`).FindAllStringSubmatch(text, -1) {
		named[m[1]] = m[2]
	}
	inline, shared := regexp.MustCompile(`- \{name: (\w+), in: query`), regexp.MustCompile(`#/components/parameters/(\w+)"`)
	type operation struct {
		query []string
		open  bool
	}
	documented := make(map[string]*operation)
	path, inPaths := "", false
	var op *operation
	for line := range strings.SplitSeq(text, "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		word := strings.TrimSuffix(strings.TrimSpace(line), ":")
		switch {
		case indent == 0 && word != "":
			inPaths = word == "paths"
		case !inPaths:
		case indent == 2:
			path, op = word, nil
		case indent == 4 && slices.Contains([]string{"get", "post", "put", "delete", "patch"}, word):
			op = new(operation)
			documented[strings.ToUpper(word)+" "+path] = op
		case indent == 4:
			op = nil // parameters of all methods of the path: only placeholders
		case op == nil:
		case strings.HasPrefix(word, "security: []"):
			op.open = true
		default:
			if m := inline.FindStringSubmatch(line); m != nil {
				op.query = append(op.query, m[1])
			}
			if m := shared.FindStringSubmatch(line); m != nil && named[m[1]] != "" {
				op.query = append(op.query, named[m[1]])
			}
		}
	}
	for _, rt := range table() {
		name := rt.method + " " + strings.ReplaceAll(rt.pattern, "...", "")
		op, ok := documented[name]
		if !ok {
			t.Errorf("%s is not in openapi.yaml", name)
			continue
		}
		delete(documented, name)
		if rt.mount != nil {
			continue
		}
		if op.open != rt.open {
			t.Errorf("%s: open %v in openapi.yaml, %v in the table", name, op.open, rt.open)
		}
		slices.Sort(op.query)
		if known := slices.Sorted(slices.Values(rt.query)); !slices.Equal(known, op.query) {
			t.Errorf("%s: query parameters %v in openapi.yaml, %v in the table", name, op.query, known)
		}
	}
	for name := range documented {
		t.Errorf("openapi.yaml has %s, the table has not", name)
	}
}

// TestOpenAPINamesEveryCode holds the code list of the file against the codes there are.
func TestOpenAPINamesEveryCode(t *testing.T) {
	m := regexp.MustCompile(`enum: \[(bad-request, [^\]]*)\]`).FindStringSubmatch(string(openAPIFile))
	if m == nil {
		t.Fatal("the schema Problem has no list of codes")
	}
	for code := range strings.SplitSeq(m[1], ", ") {
		if statusOf(code) == 500 && code != codeInternal {
			t.Errorf("openapi.yaml names %q, which has no status", code)
		}
	}
	for _, code := range []string{codeMethod, codeSlowBody, codeInternal, message.CodeQuota, message.CodeNotDelivered} {
		if !slices.Contains(strings.Split(m[1], ", "), code) {
			t.Errorf("openapi.yaml lacks %q", code)
		}
	}
}
