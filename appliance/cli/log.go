package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"edgepost/appliance/outbox"
	"edgepost/wal"
)

// oneLog is one write-ahead log of a data directory, and how to describe its records.
type oneLog struct {
	name     string
	describe func(seq uint64, data []byte) string // nil: only sizes
}

func logCommands() []*command {
	verify := &command{name: "log verify", args: "[LOG]", short: "check every byte of the logs of a data directory", flags: newFlags(), local: true}
	verify.long = `
LOG is outbox (the messages) or registry (devices, groups, keys); without it both. It changes nothing and reads the
disk directly. On a running appliance the newest frame may look unfinished. Exit 1 when something that
was acknowledged is damaged or lost. Checksums need no key; with the data directory's key everything that is encrypted
is decrypted as well.`
	verify.run = func(_ context.Context, c *call) error { return c.eachLog(c.verifyLog) }
	dump := &command{name: "log dump", args: "[LOG]", short: "print every frame and record of the logs of a data directory", flags: newFlags(), local: true}
	dump.long = `
LOG is outbox (the messages) or registry (devices, groups, keys); without it both. It changes nothing. Payloads
and secrets are not printed, topics and names are. Without its key of an encrypted log only the headers are printed.`
	dump.run = func(_ context.Context, c *call) error { return c.eachLog(c.dumpLog) }
	return []*command{verify, dump}
}

// eachLog does it for the log that was named, or for all.
func (c *call) eachLog(do func(dir string, l oneLog) error) error {
	logs := []oneLog{{"outbox", outbox.Describe}, {"registry", nil}}
	if len(c.args) > 0 {
		for _, l := range logs {
			if l.name == c.args[0] {
				return do(filepath.Join(c.data, l.name), l)
			}
		}
		return usage(c.cmd.name, "%s: %q is not a log; outbox or registry", c.cmd.name, clip(c.args[0]))
	}
	var last error
	for _, l := range logs {
		if err := do(filepath.Join(c.data, l.name), l); err != nil {
			if last != nil {
				c.note("%v", last)
			}
			last = err
		}
	}
	return last
}

func (c *call) verifyLog(dir string, l oneLog) error {
	if err := isLog(dir); err != nil {
		return err
	}
	out := c.Stdout
	if c.json {
		out = io.Discard
	}
	r, err := wal.Verify(dir, wal.Encryption{Log: l.name, Keys: c.keys()}, out)
	if err != nil {
		return err
	}
	if c.json {
		err = c.printValue(reportJSON{
			l.name, r.OK(), r.Generations, r.Records, r.Bytes, r.Damaged, lostRanges(r.Lost), r.Torn, r.Unfinished,
			r.Plain, r.Encrypted, r.Decrypted, r.Keyless, r.Forged,
		})
	}
	if err == nil && !r.OK() {
		if r.Forged > 0 {
			return &failure{exitFailed, fmt.Sprintf("%s has %d frames that cannot be decrypted: the key is another one, or somebody changed them", dir, r.Forged), ""}
		}
		return &failure{exitFailed, fmt.Sprintf("%s is damaged in %d places", dir, r.Damaged), ""}
	}
	return err
}

// reportJSON is [wal.Report] as -json shows it.
type reportJSON struct {
	Log         string      `json:"log"`
	OK          bool        `json:"ok"`
	Generations int         `json:"generations"`
	Records     int64       `json:"records"`
	Bytes       int64       `json:"bytes"`
	Damaged     int         `json:"damaged"`
	Lost        [][2]uint64 `json:"lost"` // first and last record of each range
	Torn        int64       `json:"torn"`
	Unfinished  int         `json:"unfinished"`
	Plain       int64       `json:"plain"`     // records that are not encrypted
	Encrypted   int64       `json:"encrypted"` // records that are
	Decrypted   int         `json:"decrypted"` // encrypted frames that the key opened
	Keyless     int         `json:"keyless"`   // of which only the checksum was looked at
	Forged      int         `json:"forged"`    // with a right checksum that could not be decrypted
}

func lostRanges(list []wal.Range) [][2]uint64 {
	out := make([][2]uint64, len(list))
	for i, r := range list {
		out[i] = [2]uint64{r.First, r.Last}
	}
	return out
}

func (c *call) dumpLog(dir string, l oneLog) error {
	if c.json {
		return usage(c.cmd.name, "log dump: it has no -json; its lines are for people")
	}
	if err := isLog(dir); err != nil {
		return err
	}
	describe := l.describe
	if describe != nil {
		describe = func(seq uint64, data []byte) string { return printable(l.describe(seq, data)) }
	}
	return wal.Dump(dir, wal.Encryption{Log: l.name, Keys: c.keys()}, c.Stdout, describe)
}

func isLog(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return &failure{exitFailed, fmt.Sprintf("there is no log: %v", err), "name the data directory with -data DIR"}
	}
	if !info.IsDir() {
		return &failure{exitFailed, fmt.Sprintf("there is no log: %s is not a directory", dir), "name the data directory with -data DIR"}
	}
	return nil
}
