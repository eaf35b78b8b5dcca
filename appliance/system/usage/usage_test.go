package usage

import (
	"os"
	"testing"
)

func TestReadings(t *testing.T) {
	if rss([]byte("12000 345 67 8 0 9 0\n")) != 345 || rss([]byte("12\n")) != 0 || rss(nil) != 0 {
		t.Error("statm is misread")
	}
	io := "rchar: 1\nwchar: 2\nsyscr: 3\nread_bytes: 4\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n"
	if written([]byte(io)) != 8192 || written([]byte("wchar: 2\n")) != 0 {
		t.Error("io is misread")
	}
}

func TestThisProcess(t *testing.T) {
	before := CPU()
	for CPU() <= before { // ends, because it uses the processor
	}
	if r := RSS(); r < 1<<20 || r > 1<<40 {
		t.Errorf("RSS %d", r)
	}
	if d := DiskOf(os.TempDir()); d.Total <= 0 || d.Free > d.Total {
		t.Errorf("disk %+v", d)
	}
	if d := DiskOf("/does/not/exist"); d != (Disk{}) {
		t.Errorf("a path that does not exist: %+v", d)
	}
}
