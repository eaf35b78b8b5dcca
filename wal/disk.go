package wal

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"

	tidwall "github.com/tidwall/wal"
	"golang.org/x/sys/unix"
)

// disk is every operation by which the log changes the disk. Reading needs no seam: tests damage the files instead.
type disk interface {
	Mkdir(path string) error
	// Create makes the file of a new generation in dir, which must be empty. A part of 0 bytes means a main generation,
	// which never goes on to a second file; else the writer goes on to a new file after that many bytes.
	Create(dir string, part int64) (segment, error)
	Rename(from, to string) error
	Remove(path string) error
	SyncDir(path string) error
	// Trim gives back the blocks that Reserve took and nothing was written to.
	Trim(path string) error
	// Fill makes a file of n bytes that occupies n bytes on disk, and syncs it.
	Fill(path string, n int64) error
	// Free returns the bytes that can still be written, and whether overwriting a file happens in place.
	Free(path string) (free int64, inPlace bool, err error)
}

// segment is the file of one generation while it is written. It is for one goroutine. After any error it must only be closed.
type segment interface {
	Write(frame []byte) error  // one entry: the frame behind its length
	Zero(off, n int64) error   // writes zeros ahead
	Reserve(to int64) error    // finds blocks up to there; the file's size stays
	Sync() error               // makes everything written durable
	Truncate(size int64) error // cuts off what Zero wrote and Reserve took ahead
	Close() error              // gives back what Reserve took, syncs and closes
}

// osDisk is the operating system's.
type osDisk struct{}

func (osDisk) Mkdir(path string) error      { return os.Mkdir(path, 0o700) }
func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(path string) error     { return os.Remove(path) }

// SyncDir makes the entries of a directory durable. File systems that cannot sync a directory say EINVAL; they order by themselves.
func (osDisk) SyncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

func (osDisk) Trim(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return trim(f)
}

// trim cuts a file where it ends: blocks behind its end go.
func trim(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return f.Truncate(info.Size())
}

// Fill writes noise, because UBIFS, JFFS2 and btrfs compress zeros away.
func (osDisk) Fill(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var buf [16 << 10]byte
	x := uint64(0x9E3779B97F4A7C15)
	for n > 0 {
		for i := range buf {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			buf[i] = byte(x)
		}
		m, err := f.Write(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return f.Sync()
}

// Free asks the file system. Only ext2/3/4 and XFS overwrite in place; on the others zeros ahead would be written for
// nothing. (An overlay does not say what is below it and counts as not in place.)
func (osDisk) Free(path string) (int64, bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, false, err
	}
	blocks := uint64(st.Bavail)
	if os.Geteuid() == 0 {
		blocks = uint64(st.Bfree) // root may use the blocks that are set aside for it
	}
	free := blocks * uint64(st.Bsize)
	kind := uint32(st.Type)
	return int64(min(free, math.MaxInt64)), kind == unix.EXT4_SUPER_MAGIC || kind == unix.XFS_SUPER_MAGIC, nil
}

// Create opens a tidwall/wal log as the writer. It opens its file without O_APPEND and writes at its own file position,
// which starts at 0: so a second descriptor of the same file can write zeros ahead of it and sync it.
func (osDisk) Create(dir string, part int64) (segment, error) {
	opts := &tidwall.Options{
		NoSync: true, SegmentSize: math.MaxInt32, SegmentCacheSize: 1, LogFormat: tidwall.Binary,
		DirPerms: 0o700, FilePerms: 0o600,
	}
	if part > 0 {
		opts.SegmentSize = int(part)
	}
	log, err := tidwall.Open(dir, opts)
	if err != nil {
		return nil, err
	}
	s := &writer{log: log}
	if last, err := log.LastIndex(); err != nil || last != 0 {
		s.Close()
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	if part == 0 {
		if s.file, err = os.OpenFile(filepath.Join(dir, firstPart), os.O_WRONLY, 0); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// writer is one generation's tidwall/wal log. Only Write, Sync and Close of it are ever called, and nothing but Close
// after an error: its state is wrong then (notes: it would write the failed entries again, or skip them).
type writer struct {
	log  *tidwall.Log
	file *os.File // second descriptor, nil for sides
	over bool     // blocks are reserved behind the file's end
	n    uint64
}

func (w *writer) Write(frame []byte) error {
	if err := w.log.Write(w.n+1, frame); err != nil {
		return err
	}
	w.n++
	return nil
}

func (w *writer) Zero(off, n int64) error {
	var zeros [8 << 10]byte
	for n > 0 {
		m, err := w.file.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}

func (w *writer) Reserve(to int64) error {
	w.over = true // some of them also after an error
	return unix.Fallocate(int(w.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, to)
}

// Sync is fdatasync where it can be: without zeros ahead it also writes the new size, with them only data.
func (w *writer) Sync() error {
	if w.file == nil {
		return w.log.Sync()
	}
	for {
		err := unix.Fdatasync(int(w.file.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (w *writer) Truncate(size int64) error { return w.file.Truncate(size) }

// Close closes twice if need be: tidwall/wal keeps its descriptor when its last sync fails, and a file reports an error only once.
func (w *writer) Close() error {
	if w.over {
		_ = trim(w.file) // costs space until the generation goes, nothing else
	}
	err := w.log.Close()
	if err != nil {
		_ = w.log.Close()
	}
	if w.file != nil {
		err = errors.Join(err, w.file.Close())
	}
	return err
}

// lockFile is the flock that keeps a second process out. The file also marks the directory as a log's.
type lockFile struct{ f *os.File }

const (
	lockName   = "lock"
	lockMark   = "edgepost wal, format 1, format 1\n" // twice, so that a flipped bit is no newer format
	reserve    = "reserve"
	lostFolder = "lost"
)

// acquire locks dir. A file system that turned read-only still locks, if the file is there already.
func acquire(dir string) (lockFile, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) {
		if f, _ = os.Open(path); f != nil {
			err = nil
		}
	}
	if err != nil {
		return lockFile{}, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return lockFile{}, fmt.Errorf("%w: stop the one that uses %s, or choose another folder", ErrLocked, dir)
		}
		return lockFile{}, fmt.Errorf("lock %s: %w", path, err)
	}
	return lockFile{f}, nil
}

func (k lockFile) release() {
	if k.f != nil {
		k.f.Close()
	}
}
