package wal

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// Report is what Verify found.
type Report struct {
	Generations int
	Records     int64
	Bytes       int64
	Damaged     int     // places that cannot be read
	Lost        []Range // records that were acknowledged and are gone
	Torn        int64   // bytes of a write that a crash interrupted: nothing is lost by it
	Unfinished  int     // sides that were never completed: nothing is lost by them
	Plain       int64   // records that anyone who has the disk can read
	Encrypted   int64   // the other records
	Decrypted   int     // encrypted frames that the keys open
	Keyless     int     // encrypted frames of which only the checksum was looked at, because there is no key for them
	Forged      int     // encrypted frames that cannot be decrypted although their checksum is right
}

// OK reports whether everything that was acknowledged is there and right, as far as the keys at hand tell.
func (r Report) OK() bool { return r.Damaged == 0 && len(r.Lost) == 0 && r.Forged == 0 }

// Verify reads every byte of the log in dir, checks it and writes what it found to w for a person to read. It changes
// nothing and takes no lock: on a log that is in use the newest frame may look unfinished. Checksums need no key; with
// keys every encrypted frame is decrypted as well. The error is about reading dir or writing w; damage is in the report.
func Verify(dir string, enc Encryption, w io.Writer) (Report, error) {
	var rep Report
	s, err := lookAround(dir, true, &enc)
	if err == nil && len(s.gens) == 0 {
		err = checkLog(dir)
	}
	if err != nil {
		return rep, fmt.Errorf("verify log: %w", err)
	}
	out := bufio.NewWriter(w)
	for _, g := range s.gens {
		rep.Generations++
		rep.Records += g.records
		rep.Bytes += g.bytes
		rep.Torn += g.torn
		fmt.Fprintln(out, g.summary())
		rep.encryption(g, out)
		for _, d := range g.damage {
			rep.Damaged++
			fmt.Fprintf(out, "  DAMAGED at byte %d, %d bytes: %s", d.off, d.end-d.off, d.why)
			if d.lost.Last != 0 {
				rep.Lost, _ = addRange(rep.Lost, d.lost)
				fmt.Fprintf(out, "; records %d..%d are lost", d.lost.First, d.lost.Last)
			}
			fmt.Fprintln(out)
		}
		if g.torn > 0 {
			fmt.Fprintf(out, "  an unfinished write of %d bytes at byte %d: normal after a crash, or the log is being written; nothing is lost\n", g.torn, g.size)
		}
	}
	for _, g := range s.strange {
		fmt.Fprintf(out, "%s is a copy of another generation and is ignored\n", g.name)
	}
	for _, name := range s.sides {
		rep.Unfinished++
		fmt.Fprintf(out, "%s was never completed; the next start removes it\n", name)
	}
	if rep.Encrypted > 0 {
		fmt.Fprintf(out, "ENCRYPTED: %d records, %d more are plain; %d frames decrypted, %d not tried for want of a key, %d forged\n",
			rep.Encrypted, rep.Plain, rep.Decrypted, rep.Keyless, rep.Forged)
	}
	if rep.OK() {
		fmt.Fprintf(out, "OK: %d records in %d generations, %d bytes\n", rep.Records, rep.Generations, rep.Bytes)
	} else {
		fmt.Fprintf(out, "DAMAGED: %d places; %d records in %d generations are good, %d bytes\n", rep.Damaged, rep.Records, rep.Generations, rep.Bytes)
	}
	if err := out.Flush(); err != nil {
		return rep, fmt.Errorf("verify log: %w", err)
	}
	return rep, nil
}

// encryption counts what of a generation is encrypted, and names what cannot be decrypted.
func (r *Report) encryption(g *loaded, out io.Writer) {
	if g.suite == Plain {
		r.Plain += g.records
	} else {
		r.Encrypted += g.records
		r.Decrypted += g.decrypted
		r.Keyless += g.dataFrames - g.decrypted - len(g.forged)
	}
	r.Forged += len(g.forged)
	for _, off := range g.forged {
		fmt.Fprintf(out, "  FORGED at byte %d: the checksum is right, but it cannot be decrypted: the key is another one, or somebody changed the file\n", off)
	}
}

// checkLog refuses a directory without generations that has no log's mark either.
func checkLog(dir string) error {
	mark, err := readMark(dir)
	if err == nil && mark == "" {
		err = fmt.Errorf("%w: there is no log in %s", ErrForeign, dir)
	}
	return err
}

func (g *loaded) summary() string {
	end := "not sealed"
	if g.sealed {
		end = "sealed"
	}
	if g.suite != Plain {
		end += fmt.Sprintf(", %s key %04x salt %016x", g.suite, g.key, g.salt)
	}
	span := "no records"
	if g.records > 0 {
		span = fmt.Sprintf("records %d..%d (%d)", g.first, g.last, g.records)
		if g.kind == Snapshot {
			span = fmt.Sprintf("%d records", g.records)
		}
	}
	return fmt.Sprintf("%s  %-8s  %s, %d frames, %d bytes, %s", g.name, g.kind, span, len(g.frames), g.bytes, end)
}

// Dump writes every frame and every record of the log in dir to w: one line each, the frame's header fields and
// describe's words for the record (nil: its length only). Of encrypted frames without their key it shows the header. Like
// Verify it changes nothing and takes no lock.
func Dump(dir string, enc Encryption, w io.Writer, describe func(seq uint64, data []byte) string) error {
	s, err := lookAround(dir, false, nil)
	if err == nil && len(s.gens) == 0 {
		err = checkLog(dir)
	}
	if err != nil {
		return fmt.Errorf("dump log: %w", err)
	}
	out := bufio.NewWriter(w)
	for _, g := range s.gens {
		fmt.Fprintln(out, g.summary())
		if g.salt == 0 || len(g.parts) == 0 {
			continue
		}
		if err := g.dump(dir, &enc, out, describe); err != nil {
			return fmt.Errorf("dump log: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("dump log: %w", err)
	}
	return nil
}

func (g *loaded) dump(root string, enc *Encryption, out io.Writer, describe func(uint64, []byte) string) error {
	r, err := openReader(filepath.Join(root, g.name), g.parts)
	if err != nil {
		return err
	}
	defer r.Close()
	crypt, _ := enc.crypter(g.suite, g.key, g.id, g.salt) // without it, headers
	s := scanner{r: r, size: g.bytes, salt: g.salt}
	if !g.sealed {
		s.size = max(g.size, headEntry) // what is behind it does not count
	}
	for {
		f, ok := s.next(true, nil)
		if !ok {
			break
		}
		if f.gap < f.off {
			fmt.Fprintf(out, "  %8d  unreadable, %d bytes\n", f.gap, f.off-f.gap)
		}
		fmt.Fprintf(out, "  %8d  %s\n", f.off, f.describe())
		if f.typ != typeData || !f.intact {
			continue
		}
		if f.suite != Plain && crypt == nil {
			fmt.Fprintln(out, "            encrypted; there is no key for it")
			continue
		}
		p, err := crypt.decrypt(&f.header, f.payload)
		if err != nil {
			fmt.Fprintf(out, "            FORGED: %v\n", err)
			continue
		}
		b, err := decode(&f.header, p)
		if err != nil {
			fmt.Fprintln(out, "            its records cannot be told apart")
			continue
		}
		for i := range b.ends {
			text := fmt.Sprintf("%d bytes", len(b.record(i)))
			if describe != nil {
				text = describe(b.seq(i), b.record(i))
			}
			if _, err := fmt.Fprintf(out, "            %d  %s\n", b.seq(i), text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *found) describe() string {
	name := map[frameType]string{typeHead: "head", typeData: "data", typeSeal: "seal", typeMark: "mark"}[f.typ]
	wall := "clock not trusted"
	if f.stamp.Wall != 0 {
		wall = time.Unix(0, f.stamp.Wall).UTC().Format(time.RFC3339Nano)
	}
	text := fmt.Sprintf("%s  %d bytes  %s  age %s  boot %d", name, f.end-f.off, wall, time.Duration(f.stamp.Age), f.stamp.Boot)
	if f.typ == typeData {
		text += fmt.Sprintf("  %d records", f.count)
		if f.kind != Snapshot {
			text += fmt.Sprintf(" %d..%d", f.first, f.last)
		}
	}
	if f.typ == typeData && f.suite != Plain {
		text += fmt.Sprintf("  nonce %x", f.nonceOf())
	}
	if !f.intact {
		text += "  CHECKSUM IS WRONG"
	}
	return text
}
