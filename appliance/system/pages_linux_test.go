package system

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestReleaseCode(t *testing.T) {
	mapped := func() int {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Skip("SKIP: no /proc/self/status: ", err)
		}
		_, rest, _ := strings.Cut(string(status), "RssFile:")
		kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.Atoi(kb)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := mapped()
	for range 3 { // what is unmapped comes back by itself
		if err := ReleaseCode(); err != nil {
			t.Fatal(err)
		}
	}
	if after := mapped(); after >= before {
		t.Errorf("%d KiB of files are mapped, before it were %d", after, before)
	}
}

func TestClean(t *testing.T) {
	const file = "/usr/bin/edgepost"
	for _, c := range []struct {
		line     string
		from, to uintptr
		ok       bool
	}{
		{"00400000-0095d000 r-xp 00000000 fe:00 1045                     /usr/bin/edgepost", 0x400000, 0x95d000, true},
		{"0095d000-00fb8000 r--p 0055d000 fe:00 1045                     /usr/bin/edgepost", 0x95d000, 0xfb8000, true},
		{"00fb8000-01012000 rw-p 00bb8000 fe:00 1045                     /usr/bin/edgepost", 0, 0, false},
		{"00400000-0095d000 r-xs 00000000 fe:00 1045                     /usr/bin/edgepost", 0, 0, false},
		{"00400000-0095d000 r-xp 00000000 fe:00 1045                     /usr/bin/other", 0, 0, false},
		{"00400000-0095d000 ---p 00000000 fe:00 1045                     /usr/bin/edgepost", 0, 0, false},
		{"7ffd6d5e8000-7ffd6d609000 rw-p 00000000 00:00 0                [stack]", 0, 0, false},
		{"c000000000-c000400000 rw-p 00000000 00:00 0 ", 0, 0, false},
		{"0095d000-00400000 r-xp 00000000 fe:00 1045                     /usr/bin/edgepost", 0, 0, false},
		{"x-y r-xp 00000000 fe:00 1045                     /usr/bin/edgepost", 0, 0, false},
		{"", 0, 0, false},
	} {
		if from, to, ok := clean(c.line, file); from != c.from || to != c.to || ok != c.ok {
			t.Errorf("%q: %x to %x, %v", c.line, from, to, ok)
		}
	}
}
