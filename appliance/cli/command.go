package cli

import (
	"context"
	"flag"
	"io"
	"slices"
	"strings"
)

// command is one row of the table.
type command struct {
	name  string // "send", "device add"
	args  string // "TOPIC [DATA|-]": one word each, [optional]
	short string // one line, without a full stop
	long  string // more, for help NAME; may be empty
	flags *flag.FlagSet
	local bool // does not talk to an appliance: no -url, -token
	run   func(ctx context.Context, c *call) error
}

// commands returns a fresh table: the flag sets hold the values of one command line.
func commands() []*command {
	table := []*command{serveCommand()}
	table = append(table, deviceCommands()...)
	table = append(table, groupCommands()...)
	table = append(table, keyCommands()...)
	table = append(table, userCommands()...)
	table = append(table, joinCommands()...)
	table = append(table, certCommands()...)
	table = append(table, oauthCommands()...)
	table = append(table, accessCommands()...)
	table = append(table, sendCommand(), listenCommand(), traceCommand(), sealKey())
	table = append(table, deadCommands()...)
	table = append(table, subscriptionCommands()...)
	table = append(table, bridgeCommands()...)
	table = append(table, statusCommand(), auditCommand(), claimCommand())
	table = append(table, operateCommands()...)
	table = append(table, logCommands()...)
	table = append(table, storageCommands()...)
	return append(table, versionCommand(), completionCommand(), helpCommand())
}

func newFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // we report ourselves
	return fs
}

// group is the first word of a command of two words, else "".
func (c *command) group() string {
	g, _, ok := strings.Cut(c.name, " ")
	if !ok {
		return ""
	}
	return g
}

// checkArgs compares what is left on the line with what the command takes.
func (c *command) checkArgs(args []string) error {
	want := strings.Fields(c.args)
	least := 0
	for _, w := range want {
		if w[0] != '[' {
			least++
		}
	}
	switch {
	case len(args) < least:
		return usage(c.name, "%s: %s is missing", c.name, want[len(args)])
	case len(args) > len(want):
		return usage(c.name, "%s: %q is too much; it takes %s", c.name, clip(args[len(want)]), orNothing(c.args))
	}
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "no arguments"
	}
	return s
}

// find returns the command that the words begin with and how many of them name it. When the first
// word is only a group's name it returns that, and used is 1.
func find(table []*command, words []string) (cmd *command, group string, used int) {
	if len(words) == 0 {
		return nil, "", 0
	}
	for _, c := range table {
		switch g := c.group(); {
		case c.name == words[0]:
			return c, "", 1
		case g == words[0] && g != "":
			if group, used = g, 1; len(words) > 1 && c.name == g+" "+words[1] {
				return c, g, 2
			}
		}
	}
	return nil, group, used
}

// topNames lists the first words of all commands, once each.
func topNames(table []*command) []string {
	var names []string
	for _, c := range table {
		if first, _, _ := strings.Cut(c.name, " "); !slices.Contains(names, first) {
			names = append(names, first)
		}
	}
	return names
}

func membersOf(table []*command, group string) []string {
	var names []string
	for _, c := range table {
		if c.group() == group {
			names = append(names, strings.TrimPrefix(c.name, group+" "))
		}
	}
	return names
}
