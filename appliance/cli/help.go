package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const tagline = "edgepost brings messages to the devices of a LAN: it stores each one, delivers it until it is\nacknowledged, and shows where it is."

func helpCommand() *command {
	c := &command{name: "help", args: "[COMMAND] [SUBCOMMAND]", short: "explain a command", flags: newFlags(), local: true}
	c.run = func(_ context.Context, call *call) error {
		table := commands()
		cmd, group, used := find(table, call.args)
		switch {
		case len(call.args) == 0:
			return call.helpAll(table)
		case cmd != nil, used > 0 && used == len(call.args):
			return call.helpOn(table, cmd, group)
		case used > 0:
			return call.unknownIn(table, group, call.args[used:])
		}
		return call.unknownCommand(table, call.args[0])
	}
	return c
}

// helpOn explains the command, else the group, else everything.
func (c *call) helpOn(table []*command, cmd *command, group string) error {
	switch {
	case cmd != nil:
		return c.helpCommand(cmd)
	case group != "":
		return c.helpGroup(table, group)
	}
	return c.helpAll(table)
}

func (c *call) helpAll(table []*command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: edgepost COMMAND [ARGUMENTS] [FLAGS]\n\n", tagline)
	listCommands(&b, table)
	b.WriteString(`
Every command takes -data DIR (or -url URL and -token TOKEN) and -json. Flags may stand anywhere.
At an https:// URL -fingerprint or -cacert says whom to trust.
Environment: EDGEPOST_DATA, EDGEPOST_URL, EDGEPOST_TOKEN, EDGEPOST_FINGERPRINT, EDGEPOST_CACERT.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 unreachable, 4 refused, 5 timeout.
More: edgepost help COMMAND
`)
	return c.print(b.String())
}

func (c *call) helpGroup(table []*command, group string) error {
	var members []*command
	for _, m := range table {
		if m.group() == group {
			members = append(members, m)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: edgepost %s COMMAND [ARGUMENTS] [FLAGS]\n\n", group)
	listCommands(&b, members)
	fmt.Fprintf(&b, "\nMore: edgepost help %s COMMAND\n", group)
	return c.print(b.String())
}

func listCommands(w io.Writer, table []*command) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range table {
		fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(m.name+" "+m.args), m.short)
	}
	t.Flush()
}

func (c *call) helpCommand(cmd *command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: edgepost %s [FLAGS]\n\n%s.\n", strings.TrimSpace(cmd.name+" "+cmd.args), upper(cmd.short))
	if cmd.long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(cmd.long))
	}
	b.WriteString("\nFlags:\n")
	_ = (&call{Env: Env{Getenv: func(string) string { return "" }}}).parse(cmd, line{}) // adds the common ones
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	cmd.flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		switch {
		case isBool(f) && strings.HasPrefix(value, "="):
			value = "[" + value + "]"
		case isBool(f):
			value = ""
		case value != "":
			value = " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(t, "  -%s%s\t%s\n", f.Name, value, text)
	})
	t.Flush()
	return c.print(b.String())
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// print writes to standard output.
func (c *call) print(s string) error {
	if _, err := io.WriteString(c.Stdout, s); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}
