package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"edgepost/appliance"
)

// Exit codes, see the package doc.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitTimeout     = 5
)

// Env is what a command line sees of its process.
type Env struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	Version string    // of the program, as it is shown
	Built   time.Time // no clock may show an earlier time; zero: unknown
}

// Main runs the process's command line and returns its exit code. SIGINT and SIGTERM stop the
// command gracefully; a second one kills the process.
func Main(args []string, version string, built time.Time) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() { // ends with the process
		<-signals
		signal.Stop(signals) // the next one has its default effect
		cancel()
	}()
	return Run(ctx, Env{os.Stdin, os.Stdout, os.Stderr, os.Getenv, version, built}, args)
}

// Run runs one command line, args[0] being the program as it was called, and returns the exit
// code. When ctx ends the command stops gracefully.
func Run(ctx context.Context, env Env, args []string) int {
	prog := "edgepost"
	if len(args) > 0 && args[0] != "" {
		prog, args = args[0], args[1:]
	}
	c := &call{Env: env, prog: prog}
	err := c.run(ctx, args)
	if err == nil {
		return exitOK
	}
	f := failureOf(err)
	if f.code == exitOK {
		return exitOK
	}
	for line := range strings.SplitSeq(f.text, "\n") {
		c.note("%s", line)
	}
	if f.next != "" {
		fmt.Fprintln(env.Stderr, "  "+strings.ReplaceAll(f.next, "edgepost ", prog+" "))
	}
	return f.code
}

// failure is an error with its exit code and, where there is one, the next step.
type failure struct {
	code int
	text string
	next string // "edgepost …" in it stands for the program as it was called
}

func (f *failure) Error() string { return f.text }

func failureOf(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &failure{exitTimeout, "it took too long: " + err.Error(), ""}
	case errors.Is(err, context.Canceled):
		return &failure{exitFailed, "interrupted", ""}
	}
	return &failure{exitFailed, err.Error(), ""}
}

func usage(cmd, format string, args ...any) *failure {
	return &failure{exitUsage, fmt.Sprintf(format, args...), strings.TrimSpace("see: edgepost help " + cmd)}
}

// call is one command line on its way.
type call struct {
	Env
	prog string // as it was called
	cmd  *command
	args []string // what is left beside flags and the command's name
	common
}

// common are the flags that every command takes.
type common struct {
	data, url, token    string
	fingerprint, cacert string // whom to trust at an https:// url
	json                bool
	given               map[string]bool // flags on the command line
}

// note prints one line to standard error, in our name.
func (c *call) note(format string, args ...any) {
	fmt.Fprintf(c.Stderr, filepath.Base(c.prog)+": "+format+"\n", args...)
}

func (c *call) run(ctx context.Context, args []string) error {
	run, err := c.understand(args)
	if err != nil {
		return err
	}
	return run(ctx)
}

// understand finds the command, reads its flags and arguments, and returns what is to be run.
func (c *call) understand(args []string) (func(ctx context.Context) error, error) {
	table := commands()
	words := split(args, flagKinds(table))
	cmd, group, used := find(table, words.names())
	switch {
	case words.help:
		return func(context.Context) error { return c.helpOn(table, cmd, group) }, nil
	case cmd != nil:
	case used > 0:
		return nil, c.unknownIn(table, group, words.names()[used:])
	case len(words.plain) == 0:
		return nil, &failure{exitUsage, "a command is missing", "see: edgepost help"}
	default:
		return nil, c.unknownCommand(table, words.plain[0])
	}
	c.cmd = cmd
	if err := words.takeWord(cmd, used); err != nil {
		return nil, err
	}
	if err := c.parse(cmd, words); err != nil {
		return nil, err
	}
	c.args = words.plain[used:]
	if err := cmd.checkArgs(c.args); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return cmd.run(ctx, c) }, nil
}

func (c *call) unknownCommand(table []*command, word string) error {
	if near := appliance.Nearest(word, topNames(table)); near != "" {
		return &failure{exitUsage, fmt.Sprintf("unknown command %q", clip(word)), "did you mean: edgepost " + near}
	}
	return &failure{exitUsage, fmt.Sprintf("unknown command %q", clip(word)), "see: edgepost help"}
}

func (c *call) unknownIn(table []*command, group string, rest []string) error {
	members := membersOf(table, group)
	if len(rest) == 0 {
		return usage(group, "%s needs one of: %s", group, strings.Join(members, ", "))
	}
	if near := appliance.Nearest(rest[0], members); near != "" {
		return &failure{exitUsage, fmt.Sprintf("unknown command \"%s %s\"", group, clip(rest[0])), "did you mean: edgepost " + group + " " + near}
	}
	return usage(group, "unknown command \"%s %s\"; there are: %s", group, clip(rest[0]), strings.Join(members, ", "))
}

// clip shortens what came from outside for a message.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
