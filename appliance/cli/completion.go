package cli

import (
	"context"
	"fmt"
	"strings"
)

func completionCommand() *command {
	c := &command{name: "completion", args: "SHELL", short: "print a completion script for bash, zsh or fish", flags: newFlags(), local: true}
	c.long = `
  bash:  source <(edgepost completion bash)
  zsh:   source <(edgepost completion zsh)
  fish:  edgepost completion fish | source`
	c.run = func(_ context.Context, call *call) error {
		switch call.args[0] {
		case "bash":
			return call.print(bashCompletion(commands()))
		case "zsh":
			return call.print("autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(commands()))
		case "fish":
			return call.print(fishCompletion(commands()))
		}
		return usage("completion", "completion: %q is not a shell it knows; bash, zsh or fish", clip(call.args[0]))
	}
	return c
}

// bashCompletion works in zsh too, through its bashcompinit.
func bashCompletion(table []*command) string {
	var b strings.Builder
	b.WriteString(`_edgepost() {
  local cur=${COMP_WORDS[COMP_CWORD]} words="" w i
  for ((i = 1; i < COMP_CWORD; i++)); do
    w=${COMP_WORDS[i]}
    case $w in -*) ;; *) words="$words $w" ;; esac
  done
  local want=""
  case "$words" in
`)
	fmt.Fprintf(&b, "    '') want='%s' ;;\n", strings.Join(topNames(table), " "))
	for _, top := range topNames(table) {
		if members := membersOf(table, top); len(members) > 0 {
			fmt.Fprintf(&b, "    ' %s') want='%s' ;;\n", top, strings.Join(members, " "))
		}
	}
	for _, c := range table {
		want := "-" + strings.Join(flagNames(c), " -")
		switch c.name {
		case "help":
			want += " " + strings.Join(topNames(table), " ")
		case "completion":
			want += " bash zsh fish"
		case "log verify", "log dump":
			want += " outbox registry"
		}
		fmt.Fprintf(&b, "    ' %s'*) want='%s' ;;\n", c.name, want)
	}
	b.WriteString(`  esac
  COMPREPLY=($(compgen -W "$want" -- "$cur"))
  if [ ${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$cur")); fi
}
complete -F _edgepost edgepost
`)
	return b.String()
}

func fishCompletion(table []*command) string {
	var b strings.Builder
	tops := topNames(table)
	all := strings.Join(tops, " ")
	b.WriteString("complete -c edgepost -f\n")
	for _, top := range tops {
		members := membersOf(table, top)
		short := "commands: " + strings.Join(members, ", ")
		if cmd, _, _ := find(table, []string{top}); cmd != nil {
			short = cmd.short
		}
		fmt.Fprintf(&b, "complete -c edgepost -n 'not __fish_seen_subcommand_from %s' -a %s -d '%s'\n", all, top, quoted(short))
	}
	for _, c := range table {
		when := "__fish_seen_subcommand_from " + c.name
		if g := c.group(); g != "" {
			sub := strings.TrimPrefix(c.name, g+" ")
			others := strings.Join(membersOf(table, g), " ")
			fmt.Fprintf(&b, "complete -c edgepost -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -a %s -d '%s'\n", g, others, sub, quoted(c.short))
			when = "__fish_seen_subcommand_from " + g + "; and __fish_seen_subcommand_from " + sub
		}
		for _, f := range flagNames(c) {
			fmt.Fprintf(&b, "complete -c edgepost -n '%s' -o %s\n", when, f)
		}
	}
	b.WriteString("complete -c edgepost -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n")
	return b.String()
}

func quoted(s string) string { return strings.ReplaceAll(s, "'", `\'`) }
