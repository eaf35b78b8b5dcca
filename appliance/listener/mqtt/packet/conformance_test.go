package packet

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

type statement struct {
	id   string // MQTT-x.y.z-n
	test string
}

// statements reads the two tables of CONFORMANCE.md, by the version in their titles.
func statements(t *testing.T) map[string][]statement {
	t.Helper()
	text, err := os.ReadFile("../CONFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (MQTT-\d+(?:\.\d+)+-\d+) \| ([SCB]) \| ([^|]+) \| ([^|]+) \|$`)
	tables := map[string][]statement{}
	version := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if title, ok := strings.CutPrefix(line, "## MQTT "); ok {
			version = title
		}
		if m := row.FindStringSubmatch(line); m != nil {
			tables[version] = append(tables[version], statement{m[1], m[4]})
		} else if strings.HasPrefix(line, "| MQTT-") {
			t.Errorf("not a row: %s", line)
		}
	}
	return tables
}

// numbers makes a statement's number comparable.
func numbers(t *testing.T, id string) (n []int) {
	t.Helper()
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(id, "MQTT-"), func(r rune) bool { return r == '.' || r == '-' }) {
		i, err := strconv.Atoi(part)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		n = append(n, i)
	}
	return n
}

// TestConformanceTable holds CONFORMANCE.md to its own promises.
func TestConformanceTable(t *testing.T) {
	tables := statements(t)
	if len(tables["5.0"]) != 251 || len(tables["3.1.1"]) != 141 {
		t.Errorf("%d statements of 5.0 and %d of 3.1.1", len(tables["5.0"]), len(tables["3.1.1"]))
	}
	tests := map[string]bool{}
	for dir, prefix := range map[string]string{".": "packet.", "..": "", "../../../courier": "courier.", "../../../../scripts/e2e": "e2e."} {
		for _, name := range declared(t, dir) {
			tests[prefix+name] = true
		}
	}
	named := regexp.MustCompile(`(?:\w+\.)?\b(?:Test|Fuzz)[A-Z]\w*`)
	other := regexp.MustCompile(`^(?:client|not so here)\b`)
	files := regexp.MustCompile(`testdata/[\w.]+`)
	for version, rows := range tables {
		for i, s := range rows {
			if i > 0 && slices.Compare(numbers(t, rows[i-1].id), numbers(t, s.id)) >= 0 {
				t.Errorf("%s: %s stands behind %s", version, s.id, rows[i-1].id)
			}
			if !named.MatchString(s.test) && !files.MatchString(s.test) && !other.MatchString(s.test) {
				t.Errorf("%s: %s names no test and no reason: %s", version, s.id, s.test)
			}
			for _, name := range named.FindAllString(s.test, -1) {
				if !tests[name] {
					t.Errorf("%s: %s names %s, which does not exist", version, s.id, name)
				}
			}
			for _, file := range files.FindAllString(s.test, -1) {
				if _, err := os.Stat(filepath.Join("..", file)); err != nil {
					t.Errorf("%s: %s: %v", version, s.id, err)
				}
			}
		}
	}
}

// declared returns the tests and fuzz targets of a directory.
func declared(t *testing.T, dir string) (names []string) {
	t.Helper()
	fn := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, src := range sources(t, filepath.Join(dir, "*_test.go")) {
		for _, m := range fn.FindAllStringSubmatch(src, -1) {
			names = append(names, m[1])
		}
	}
	return names
}

func sources(t *testing.T, glob string) (texts []string) {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// TestCitedStatements: a number that the codec or its tests cite is one of the specification's, and every
// statement that the table gives to a table of bad packets is cited in one.
func TestCitedStatements(t *testing.T) {
	known := map[string]bool{}
	tables := statements(t)
	for _, rows := range tables {
		for _, s := range rows {
			known[s.id] = true
		}
	}
	cite := regexp.MustCompile(`MQTT-\d+(?:\.\d+)+-\d+`)
	for _, src := range sources(t, "*.go") {
		for _, id := range cite.FindAllString(src, -1) {
			if !known[id] {
				t.Errorf("%s has no row", id)
			}
		}
	}
	tested := strings.Join(sources(t, "*_test.go"), "") + strings.Join(sources(t, "*.go"), "")
	for version, rows := range tables {
		for _, s := range rows {
			if strings.Contains(s.test, "packet.TestBad") && !strings.Contains(tested, s.id) && !strings.HasPrefix(s.id, "MQTT-4.8.0") && !strings.HasPrefix(s.id, "MQTT-4.13") && !strings.HasPrefix(s.id, "MQTT-3.1.4-1") {
				t.Errorf("%s: no test and no check cites %s", version, s.id)
			}
		}
	}
}
