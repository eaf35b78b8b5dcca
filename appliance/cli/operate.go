package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func operateCommands() []*command {
	return []*command{diagnosticsCommand(), backupCommand(), restoreCommand()}
}

// toFile writes what must not be overwritten by mistake; "-" is standard output.
func (c *call) toFile(path string, b []byte) error {
	if path == "-" {
		return c.print(string(b))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func diagnosticsCommand() *command {
	c := &command{name: "diagnostics", args: "FILE", short: "write a bundle without secrets for whoever is asked for help; - is standard output", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		b, err := cl.call(ctx, http.MethodGet, "/v1/diagnostics", nil, nil)
		if err != nil {
			return err
		}
		return call.toFile(call.args[0], b)
	}
	return c
}

// passphrase reads the passphrase of a backup from a file, whose last line break does not count.
func (c *call) passphrase(file string) (string, error) {
	if file == "" {
		return "", usage(c.cmd.name, "%s: give a file with the passphrase: -passphrase-file FILE", c.cmd.name)
	}
	b, err := os.ReadFile(file)
	return strings.TrimRight(string(b), "\r\n"), err
}

func backupCommand() *command {
	var file string
	c := &command{name: "backup", args: "FILE", short: "write devices, groups, keys, users, bridges, certificates and the configuration, encrypted", flags: newFlags()}
	c.flags.StringVar(&file, "passphrase-file", "", "the passphrase is in `FILE`")
	c.run = func(ctx context.Context, call *call) error {
		phrase, err := call.passphrase(file)
		if err != nil {
			return err
		}
		cl, err := call.client()
		if err != nil {
			return err
		}
		b, err := cl.call(ctx, http.MethodPost, "/v1/backup", map[string]string{"passphrase": phrase}, nil)
		if err != nil {
			return err
		}
		return call.toFile(call.args[0], b)
	}
	return c
}

func restoreCommand() *command {
	var file string
	c := &command{name: "restore", args: "FILE", short: "replace devices, groups, keys and users by those of a backup, and make its bridges", flags: newFlags()}
	c.long = `
They work at once, and everybody's connections and sessions end. Certificates are in place after a restart. Messages
are not in a backup; inboxes of devices that it does not have end. Bridges made over the API are made or changed as the
backup has them, and others stay; files that they name, such as password_file, are not in a backup.`
	c.flags.StringVar(&file, "passphrase-file", "", "the passphrase is in `FILE`")
	c.run = func(ctx context.Context, call *call) error {
		phrase, err := call.passphrase(file)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(call.args[0])
		if err != nil {
			return err
		}
		cl, err := call.client()
		if err != nil {
			return err
		}
		var r struct {
			Devices  int      `json:"devices"`
			Groups   int      `json:"groups"`
			Keys     int      `json:"keys"`
			Users    int      `json:"users"`
			Bridges  int      `json:"bridges"`
			Problems []string `json:"problems"`
			Restart  bool     `json:"restart"`
		}
		body, err := cl.call(ctx, http.MethodPost, "/v1/restore", map[string]any{"passphrase": phrase, "backup": b}, &r)
		if err != nil {
			return err
		}
		for _, p := range r.Problems {
			call.note("not restored: " + p)
		}
		if r.Restart {
			call.note("restart the appliance: its certificates are in place then")
		}
		if call.json {
			return call.printJSON(body)
		}
		return call.print(fmt.Sprintf("restored %d devices, %d groups, %d keys, %d users and %d bridges\n", r.Devices, r.Groups, r.Keys, r.Users, r.Bridges))
	}
	return c
}
