package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// clockState is the file "clock": one line of JSON and one with its CRC-32 (IEEE) in hexadecimal,
// because a flipped bit in an age would expire everything.
type clockState struct {
	Version     int    `json:"version"` // 1
	BootID      string `json:"boot_id"`
	Boot        uint32 `json:"boot"`
	Boottime    int64  `json:"boottime"` // when it was written; ns
	Offset      int64  `json:"offset"`   // age − boottime, constant in this boot
	Age         int64  `json:"age"`      // when it was written
	TrustedAge  int64  `json:"trusted_age"`
	TrustedWall int64  `json:"trusted_wall"` // 0: the wall clock was never trusted
	Gap         bool   `json:"gap"`          // time switched off since then is not yet counted
	Jumps       []jump `json:"jumps,omitempty"`
}

const maxStateFile = 16 << 10 // a jump takes 100 bytes at most

func encodeState(s clockState) []byte {
	b, _ := json.Marshal(s) // numbers and a string: it cannot fail
	return fmt.Appendf(b, "\n%08x\n", crc32.ChecksumIEEE(b))
}

func decodeState(b []byte) (clockState, error) {
	var s clockState
	line, sum, _ := strings.Cut(string(b), "\n")
	if want := fmt.Sprintf("%08x\n", crc32.ChecksumIEEE([]byte(line))); sum != want {
		return s, errors.New("its checksum is wrong")
	}
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		return clockState{}, err
	}
	if len(s.Jumps) > maxJumps {
		return clockState{}, fmt.Errorf("it tells of %d jumps, at most %d are kept", len(s.Jumps), maxJumps)
	}
	if s.Version != 1 {
		return clockState{}, fmt.Errorf("its version is %d, known is 1", s.Version)
	}
	return s, nil
}

// readState returns false when there is no usable state.
func readState(path string, log *slog.Logger) (clockState, bool) {
	if path == "" {
		return clockState{}, false
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return clockState{}, false
	}
	var s clockState
	if err == nil {
		defer f.Close()
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(f, maxStateFile)); err == nil {
			s, err = decodeState(b)
		}
	}
	if err != nil {
		log.Warn("clock state is unusable; going on from the log's stamps", "path", path, "error", err)
		return clockState{}, false
	}
	return s, true
}

// save writes the state when it must change, or in any case when asked. It does no I/O under the lock.
// Only one goroutine may save at a time: Resume comes before Run.
func (c *Clock) save(always bool) {
	if c.o.Path == "" {
		return
	}
	c.mu.Lock()
	if !always && !c.dirty {
		c.mu.Unlock()
		return
	}
	boottime := c.o.Boottime()
	s := clockState{
		Version: 1, BootID: c.o.BootID, Boot: c.boot, Boottime: boottime, Offset: c.offset,
		Age:        max(boottime+c.offset, c.last),
		TrustedAge: c.anchor.age, TrustedWall: c.anchor.wall, Gap: c.gap,
	}
	if c.latest.wall != 0 {
		s.TrustedAge, s.TrustedWall, s.Gap = c.latest.age, c.latest.wall, false
	}
	if jumps := c.jumps.Load(); jumps != nil {
		s.Jumps = *jumps
	}
	c.dirty = false
	c.mu.Unlock()

	err := writeState(c.o.Path, encodeState(s))

	c.mu.Lock()
	failedBefore := c.saveFails
	c.saveFails = err != nil
	if err == nil {
		c.savedAge = s.Age
	} else {
		c.dirty = true
	}
	c.mu.Unlock()
	if err != nil && !failedBefore {
		c.o.Log.Warn("cannot save clock state; after a power cut messages may live longer than they should", "error", err)
	}
}

// writeState replaces the file so that a power cut leaves the old or the new one.
func writeState(path string, b []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write clock state: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write clock state: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
