package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edgepost/appliance/message"
)

type userJSON struct {
	Name     string        `json:"name,omitempty"`
	Label    string        `json:"label,omitempty"`
	Admin    bool          `json:"admin,omitempty"`
	Rules    message.Rules `json:"rules,omitzero"`
	Created  time.Time     `json:"created,omitzero"`
	Password string        `json:"password,omitempty"`
}

// maxTyped is the most bytes of a password that is read.
const maxTyped = 1 << 10

func userCommands() []*command {
	return []*command{
		adminPasswd(), adminCode(), userAdd(), userList(), userPasswd(),
		remover("user rm", "NAME", "/v1/users/", "remove a user; its sessions end at once"),
	}
}

const passwordHelp = `
The password is asked for twice, or read from standard input when that is no terminal: it never stands on a
command line, where every user of the machine could see it.`

func adminPasswd() *command {
	c := &command{name: "admin passwd", args: "[NAME]", short: "set the password of an administrator; the first one sets the gateway up", flags: newFlags()}
	c.long = `
NAME is admin unless you say another. The user is made if there is none, and may then administer, publish and
subscribe everything.` + passwordHelp
	c.run = func(ctx context.Context, call *call) error {
		name := "admin"
		if len(call.args) > 0 {
			name = call.args[0]
		}
		cl, err := call.client()
		if err != nil {
			return err
		}
		var have userJSON
		_, err = cl.call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(name), nil, &have)
		missing := isProblem(err, message.CodeNotFound)
		if err != nil && !missing {
			return err
		}
		if !missing && !have.Admin {
			return &failure{exitRefused, name + " may not administer", "for its password: edgepost user passwd " + name}
		}
		password, err := call.newPassword(name)
		if err != nil {
			return err
		}
		if missing {
			err = call.change(ctx, http.MethodPost, "/v1/users", userJSON{Name: name, Admin: true, Password: password})
		} else {
			err = call.setPassword(ctx, name, password)
		}
		if err == nil && !call.json {
			call.note("%s may sign in and administer", name)
		}
		return err
	}
	return c
}

// isProblem reports whether the appliance refused with the code.
func isProblem(err error, code string) bool {
	f := (*failure)(nil)
	return errors.As(err, &f) && strings.HasSuffix(f.text, "("+code+")")
}

func (c *call) setPassword(ctx context.Context, name, password string) error {
	return c.change(ctx, http.MethodPut, "/v1/users/"+url.PathEscape(name)+"/password", userJSON{Password: password})
}

func adminCode() *command {
	c := &command{name: "admin code", short: "print a new set-up code; the earlier one ends", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		var made struct {
			Code string `json:"code"`
		}
		body, err := cl.call(ctx, http.MethodPost, "/v1/setup/code", nil, &made)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		return call.print(made.Code + "\n")
	}
	return c
}

func userAdd() *command {
	var u userJSON
	c := &command{name: "user add", args: "NAME", short: "add a person who signs in with a password", flags: newFlags()}
	c.long = `
A user may do nothing but what -publish, -subscribe and -admin allow. Its name must not be a device's or key's.` + passwordHelp
	ruleFlags(c.flags, &u.Rules)
	c.flags.BoolVar(&u.Admin, "admin", false, "allow it to administer, and without -publish and -subscribe also to publish and subscribe everything")
	c.flags.StringVar(&u.Label, "label", "", "`TEXT` for people, in any language")
	c.run = func(ctx context.Context, call *call) (err error) {
		u.Name = call.args[0]
		if u.Password, err = call.newPassword(u.Name); err != nil {
			return err
		}
		return call.change(ctx, http.MethodPost, "/v1/users", u)
	}
	return c
}

func userPasswd() *command {
	c := &command{name: "user passwd", args: "NAME", short: "set the password of a user; its sessions end", flags: newFlags()}
	c.long = passwordHelp
	c.run = func(ctx context.Context, call *call) error {
		password, err := call.newPassword(call.args[0])
		if err != nil {
			return err
		}
		return call.setPassword(ctx, call.args[0], password)
	}
	return c
}

func userList() *command {
	c := &command{name: "user list", short: "list all users", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		docs, err := call.list(ctx, "/v1/users", "users")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		g := &grid{}
		g.row("NAME", "ADMIN", "PUBLISH", "SUBSCRIBE", "LABEL")
		return printRows(call, g, docs, func(u userJSON) {
			g.row(u.Name, yes(u.Admin), joinFilters(u.Rules.Publish), joinFilters(u.Rules.Subscribe), u.Label)
		})
	}
	return c
}

// newPassword reads a password: twice from a terminal, without showing it, else one line.
func (c *call) newPassword(name string) (string, error) {
	f, ok := c.Stdin.(*os.File)
	if !ok || !isTerminal(f) {
		return readLine(c.Stdin)
	}
	first, err := c.askHidden(f, "new password for "+name+": ")
	if err != nil {
		return "", err
	}
	again, err := c.askHidden(f, "once more: ")
	if err == nil && first != again {
		err = &failure{exitUsage, "the two are not the same; nothing was changed", ""}
	}
	return first, err
}

// readLine reads one line and no more than that may hold.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxTyped)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", &failure{exitUsage, "no password came on standard input", ""}
	}
	return line, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) //nolint:gosec // a descriptor fits
	return err == nil
}

// askHidden asks a question on a terminal that does not show the answer.
func (c *call) askHidden(f *os.File, question string) (string, error) {
	fd := int(f.Fd()) //nolint:gosec // a descriptor fits
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	hidden := *old
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &hidden); err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETSF, old)
		fmt.Fprintln(c.Stderr)
	}()
	fmt.Fprint(c.Stderr, question)
	return readLine(f)
}
