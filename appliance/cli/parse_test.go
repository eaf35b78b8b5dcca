package cli

import (
	"flag"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSplit(t *testing.T) {
	kinds := flagKinds(commands())
	for _, c := range []struct {
		line  string
		plain string
		flags string
	}{
		{"send a b", "send a b", ""},
		{"-json send a b -ttl 5", "send a b", "json ttl=5"},
		{"send --ttl=5 a -data=x b", "send a b", "ttl=5 data=x"},
		{"send a -- -b --", "send a -b --", ""},
		{"send -data -- a", "send a", "data=--"},
		{"send a -", "send a -", ""},
		{"send a -ttl", "send a", "ttl"},
		{"send a -wat -ttl 5", "send a", "wat ttl=5"},
		{"send a '' ''", "send a  ", ""},
		{"-h", "", "h"},
	} {
		l := split(words(c.line), kinds)
		var flags []string
		for _, g := range l.flags {
			if g.valued {
				g.name += "=" + g.value
			}
			flags = append(flags, g.name)
		}
		if strings.Join(l.plain, " ") != c.plain || strings.Join(flags, " ") != c.flags {
			t.Errorf("%s: %q and %q", c.line, l.plain, flags)
		}
	}
}

// A line is taken apart before its command is known, so one flag name is of one kind everywhere; and
// every command has what help and completion need.
func TestTable(t *testing.T) {
	kinds := map[string]bool{}
	for _, c := range commands() {
		if c.name == "" || c.short == "" || strings.HasSuffix(c.short, ".") || c.run == nil {
			t.Errorf("%q is incomplete", c.name)
		}
		c.flags.VisitAll(func(f *flag.Flag) {
			if kind, seen := kinds[f.Name]; seen && kind != isBool(f) {
				t.Errorf("-%s is a switch in one command and not in another", f.Name)
			}
			kinds[f.Name] = isBool(f)
			if name, _ := flag.UnquoteUsage(f); !isBool(f) && (name == "value" || name == "string" || name == "int") {
				t.Errorf("%s -%s: help does not name its value", c.name, f.Name)
			}
		})
		for _, other := range commands() {
			if other.group() == c.name {
				t.Errorf("%s is a command and a group", c.name)
			}
		}
	}
}

func TestValues(t *testing.T) {
	var d time.Duration
	for in, want := range map[string]time.Duration{"true": defaultWait, "false": 0, "3": 3 * time.Second, "500ms": 500 * time.Millisecond, "1m": time.Minute} {
		if err := (wait{&d}).Set(in); err != nil || d != want {
			t.Errorf("-wait=%s: %v, %v", in, d, err)
		}
	}
	for _, in := range []string{"", "0", "61", "soon", "-1"} {
		if err := (wait{&d}).Set(in); err == nil {
			t.Errorf("-wait=%s is taken as %v", in, d)
		}
	}
}

func TestGuessType(t *testing.T) {
	for in, want := range map[string]string{
		`{"on":true}`: "application/json", " [1]\n": "application/json", `{"on":`: "text/plain; charset=utf-8", "on": "text/plain; charset=utf-8",
		"42": "text/plain; charset=utf-8", "\xff": "application/octet-stream", "a\x00": "application/octet-stream", "{\"a\":\"\xff\"}": "application/octet-stream",
	} {
		if got := guessType([]byte(in)); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

// bash runs the completion script and says what it offers for a line that ends at the cursor.
func bash(t *testing.T, line string) []string {
	t.Helper()
	_, script, _ := runLine(t.Context(), "", "", nil, "completion", "bash")
	ask := script + `
COMP_WORDS=(` + line + `)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_edgepost
printf '%s\n' "${COMPREPLY[@]}"
`
	out, err := exec.Command("bash", "-c", ask).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		`edgepost se`:              "serve send seal",
		`edgepost device ""`:       "add import list show token rotate claim cert seal rm",
		`edgepost device s`:        "show seal",
		`edgepost device add -gr`:  "-group",
		`edgepost -json dead r`:    "requeue",
		`edgepost completion fi`:   "fish",
		`edgepost send a b -prio`:  "-priority",
		`edgepost help li`:         "listen",
		`edgepost log verify out`:  "outbox",
		`edgepost send a b -anony`: "",
	} {
		if got := strings.Join(bash(t, line), " "); got != want {
			t.Errorf("%s: offers %q, want %q", line, got, want)
		}
	}
	if got := bash(t, `edgepost ""`); !slices.Contains(got, "device") || slices.Contains(got, "add") {
		t.Errorf("the first word: %q", got)
	}
	_, fish, _ := runLine(t.Context(), "", "", nil, "completion", "fish")
	for _, part := range []string{"-a send -d", "__fish_seen_subcommand_from device; and not __fish_seen_subcommand_from add", "from device; and __fish_seen_subcommand_from add' -o group", "-a 'bash zsh fish'"} {
		if !strings.Contains(fish, part) {
			t.Errorf("fish: %q is missing", part)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(fish), "\n") {
		if !strings.HasPrefix(line, "complete -c edgepost ") || strings.Count(line, "'")%2 != 0 {
			t.Errorf("fish: %s", line)
		}
	}
	_, zsh, _ := runLine(t.Context(), "", "", nil, "completion", "zsh")
	if !strings.HasPrefix(zsh, "autoload -U +X bashcompinit") || !strings.Contains(zsh, "complete -F _edgepost edgepost") {
		t.Errorf("zsh: %.80s", zsh)
	}
}

// A script's line is never run by accident: what is printed for a terminal has no control characters.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"a b": "a b", "Lampe über": "Lampe über", "a\x1b[0m": `"a\x1b[0m"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, "": "", "灯": "灯"} {
		if got := printable(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

// Whatever the line is, it is understood or refused as wrong usage; and help never fails.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{"send a b -wait 10s", "device\nadd\n--\n-x", "-data\n--\nstatus", "send\n-wait\n5\na\nb", "help\ndevice\nadd", "-h\nsend", "--\nsend", "-=\n-\n---"} {
		f.Add(strings.ReplaceAll(seed, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, lines string) {
		var out strings.Builder
		c := &call{Env: Env{strings.NewReader(""), &out, &out, func(string) string { return "" }, "1", time.Time{}}, prog: "edgepost"}
		run, err := c.understand(strings.Split(lines, "\n"))
		if err != nil {
			if got := failureOf(err); got.code != exitUsage || got.text == "" {
				t.Fatalf("exit %d: %v", got.code, err)
			}
			return
		}
		if c.cmd == nil { // help
			if err := run(t.Context()); err != nil || !strings.Contains(out.String(), "Usage: edgepost ") {
				t.Fatalf("help: %v, %q", err, out.String())
			}
		}
	})
}
