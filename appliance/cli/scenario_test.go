package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite what testdata/*.txt expects")

// step is one command line of a scenario. In the file each line starts with a sign:
//
//	# comment         $ command line, words as in a shell      ~ a line of standard input
//	< STATUS BODY     what the appliance answers, in order; "< hangup" closes the connection
//	> what was asked  | standard output                        ! standard error    = exit code
//
// The last row is what is tested; go test -update writes it. DIR is the data directory.
type step struct {
	given []string // lines as they are in the file
	want  []string
}

func steps(text string) []step {
	var out []step
	for l := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		starts := l == "" || l[0] == '#' || l[0] == '$'
		if len(out) == 0 || starts && out[len(out)-1].command() != "" {
			out = append(out, step{})
		}
		s := &out[len(out)-1]
		if l != "" && strings.IndexByte(">|!=", l[0]) >= 0 {
			s.want = append(s.want, l)
		} else {
			s.given = append(s.given, l)
		}
	}
	return out
}

// command is the step's command line, "" while none was read.
func (s *step) command() string {
	for _, l := range s.given {
		if rest, ok := strings.CutPrefix(l, "$ "); ok {
			return rest
		}
	}
	return ""
}

// words splits a command line as a shell does, with single and double quotes only.
func words(s string) []string {
	var out []string
	var word []byte
	var quote byte
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && c == ' ':
			if in {
				out, word, in = append(out, string(word)), nil, false
			}
		default:
			word, in = append(word, c), true
		}
	}
	if in {
		out = append(out, string(word))
	}
	return out
}

// fakeAPI answers what the scenario says and writes down what was asked.
type fakeAPI struct {
	mu      sync.Mutex
	answers []string
	asked   []string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.RequestURI)
	for _, name := range []string{"Authorization", "Content-Type", "Idempotency-Key", "Message-Delay", "Message-Priority", "Message-Ttl"} {
		if v := r.Header.Get(name); v != "" {
			f.asked = append(f.asked, name+": "+v)
		}
	}
	body, _ := io.ReadAll(r.Body)
	if len(body) > 0 {
		f.asked = append(f.asked, string(body))
	}
	if len(f.answers) == 0 {
		panic(http.ErrAbortHandler)
	}
	answer := f.answers[0]
	f.answers = f.answers[1:]
	status, doc, _ := strings.Cut(answer, " ")
	code := 0
	if _, err := fmt.Sscan(status, &code); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(code)
	io.WriteString(w, doc)
}

// shortDir is a new directory; the path of [testing.T.TempDir] is too long for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ep") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// onSocket serves the handler on a data directory's control socket and returns the directory.
func onSocket(t *testing.T, h http.Handler) string {
	t.Helper()
	dir := shortDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return dir
}

// runLine runs one command line against a data directory.
func runLine(ctx context.Context, dir, stdin string, env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	getenv := func(k string) string {
		if v, ok := env[k]; ok || k != "EDGEPOST_DATA" {
			return v
		}
		return dir
	}
	code = Run(ctx, Env{strings.NewReader(stdin), &out, &errs, getenv, "1.2.3", time.Time{}}, append([]string{"bin/edgepost"}, args...))
	return code, out.String(), errs.String()
}

func (s *step) run(t *testing.T) []string {
	api := &fakeAPI{}
	dir := onSocket(t, api)
	args := words(strings.ReplaceAll(s.command(), "DIR", dir))
	env := map[string]string{}
	stdin := ""
	for _, l := range s.given {
		switch {
		case strings.HasPrefix(l, "~ "):
			stdin += l[2:] + "\n"
		case strings.HasPrefix(l, "< "):
			api.answers = append(api.answers, l[2:])
		}
	}
	for len(args) > 0 && args[0] != "edgepost" {
		k, v, _ := strings.Cut(args[0], "=")
		env[k] = v
		args = args[1:]
	}
	if len(args) == 0 {
		t.Fatalf("no command in %q", s.given)
	}
	code, stdout, stderr := runLine(t.Context(), dir, stdin, env, args[1:]...)
	var got []string
	add := func(sign, text string) {
		text = strings.ReplaceAll(text, dir, "DIR")
		if text == "" {
			return
		}
		for l := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			got = append(got, strings.TrimRight(sign+" "+l, " "))
		}
		if !strings.HasSuffix(text, "\n") {
			got = append(got, sign+`\ no newline`)
		}
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	for _, a := range api.asked {
		add(">", a+"\n")
	}
	add("|", stdout)
	add("!", stderr)
	return append(got, fmt.Sprint("= ", code))
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, s := range steps(string(text)) {
				got := s.run(t)
				if !*update && strings.Join(got, "\n") != strings.Join(s.want, "\n") {
					t.Errorf("%s\nwant:\n%s\ngot:\n%s", strings.Join(s.given, "\n"), strings.Join(s.want, "\n"), strings.Join(got, "\n"))
				}
				out = append(append(out, s.given...), got...)
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
