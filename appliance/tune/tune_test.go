package tune

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	const gib = 1 << 10 * mib
	for _, c := range []struct {
		name  string
		facts Facts
		want  Limits
		says  string
	}{
		{
			"router 64 MB",
			Facts{MemTotal: 58 * mib, MemAvailable: 40 * mib, CPUs: 1, DiskTotal: 8 * mib, DiskFree: 5 * mib},
			Limits{Profile: "tiny", MemoryLimit: 58 * mib / 4, GOGC: 50, MaxProcs: 1, Connections: 232, Generation: 58 * mib / 256, LogBudget: 4 * mib, FrameCache: 58 * mib / 64, ReadBuffer: 512, WriteBuffer: 512, Compressors: 1, LogRing: 64 * kib},
			"a quarter of the machine's 58 MiB",
		},
		{
			"router 128 MB, busy",
			Facts{MemTotal: 120 * mib, MemAvailable: 70 * mib, CPUs: 2, DiskTotal: 80 * mib, DiskFree: 60 * mib},
			Limits{Profile: "small", MemoryLimit: 28 * mib, GOGC: 75, MaxProcs: 2, Connections: 448, Generation: 120 * mib / 256, LogBudget: 20 * mib, FrameCache: 28 * mib / 16, ReadBuffer: 512, WriteBuffer: 1024, Compressors: 2, LogRing: 256 * kib},
			"40 % of the 70 MiB that are available",
		},
		{
			"gateway 512 MB",
			Facts{MemTotal: 512 * mib, MemAvailable: 400 * mib, CPUs: 4, DiskTotal: 4 * gib, DiskFree: 1 * gib},
			Limits{Profile: "medium", MemoryLimit: 128 * mib, GOGC: 100, MaxProcs: 4, Connections: 2048, Generation: 1 * mib, LogBudget: 512 * mib, FrameCache: 8 * mib, ReadBuffer: 1024, WriteBuffer: 1024, Compressors: 4, LogRing: 1 * mib},
			"half of the 1024 MiB",
		},
		{
			"box 8 GB",
			Facts{MemTotal: 8 * gib, MemAvailable: 6 * gib, CPUs: 8, DiskTotal: 200 * gib, DiskFree: 150 * gib},
			Limits{Profile: "large", MemoryLimit: 2 * gib, GOGC: 100, MaxProcs: 8, Connections: 10_000, Generation: 1 * mib, LogBudget: 4 * gib, FrameCache: 16 * mib, ReadBuffer: 4096, WriteBuffer: 4096, Compressors: 8, LogRing: 4 * mib},
			"a quarter of the disk's 200 GiB",
		},
		{ // DESIGN §10: 500 devices in a quarter of a core and 64 MiB
			"cgroup 64 MiB",
			Facts{MemTotal: 8 * gib, MemAvailable: 6 * gib, MemLimit: 64 * mib, CPUs: 8, CPUQuota: 0.25, DiskTotal: 200 * gib, DiskFree: 100 * gib},
			Limits{Profile: "medium", MemoryLimit: 48 * mib, GOGC: 100, MaxProcs: 1, Connections: 768, Generation: 256 * kib, LogBudget: 4 * gib, FrameCache: 3 * mib, ReadBuffer: 1024, WriteBuffer: 1024, Compressors: 1, LogRing: 1 * mib},
			"three quarters of the control group's 64 MiB",
		},
		{
			"data in memory",
			Facts{MemTotal: 256 * mib, CPUs: 1, DiskTotal: 128 * mib, DiskFree: 120 * mib, InMemory: true},
			Limits{Profile: "medium", MemoryLimit: 64 * mib, GOGC: 100, MaxProcs: 1, Connections: 1024, Generation: 1 * mib, LogBudget: 32 * mib, FrameCache: 4 * mib, ReadBuffer: 1024, WriteBuffer: 1024, Compressors: 1, LogRing: 1 * mib},
			"does not survive a power cut",
		},
		{
			"own data counts as free",
			Facts{MemTotal: 120 * mib, CPUs: 1, DiskTotal: 100 * mib, DiskFree: 10 * mib, DataUsed: 20 * mib},
			Limits{Profile: "small", MemoryLimit: 30 * mib, GOGC: 75, MaxProcs: 1, Connections: 480, Generation: 120 * mib / 256, LogBudget: 15 * mib, FrameCache: 30 * mib / 16, ReadBuffer: 512, WriteBuffer: 1024, Compressors: 1, LogRing: 256 * kib},
			"30 MiB that are free or ours",
		},
		{
			"nothing known",
			Facts{},
			Limits{Profile: "small", MemoryLimit: 32 * mib, GOGC: 75, MaxProcs: 1, Connections: 512, Generation: 512 * kib, LogBudget: 64 * mib, FrameCache: 2 * mib, ReadBuffer: 512, WriteBuffer: 1024, Compressors: 1, LogRing: 256 * kib},
			"unknown",
		},
		{
			"too small",
			Facts{MemTotal: 24 * mib, CPUs: 1, DiskTotal: mib, DiskFree: mib},
			Limits{Profile: "tiny", MemoryLimit: 12 * mib, GOGC: 50, MaxProcs: 1, Connections: 192, Generation: 128 * kib, LogBudget: 4 * mib, FrameCache: 768 * kib, ReadBuffer: 512, WriteBuffer: 512, Compressors: 1, LogRing: 64 * kib},
			"the least that works",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Decide(c.facts)
			why := fmt.Sprintln(got.Why)
			if !strings.Contains(why, c.says) {
				t.Errorf("no %q in\n%s", c.says, why)
			}
			want := c.want
			got.Why, want.Why = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestMoreMemoryNeverMeansLess walks all sizes: no limit of memory's shrinks while memory grows, and
// what lives in memory fits into it.
func TestMoreMemoryNeverMeansLess(t *testing.T) {
	var last Limits
	for ram := 16 * mib; ram < 4<<10*mib; ram += mib {
		l := Decide(Facts{MemTotal: ram, CPUs: 4})
		if l.MemoryLimit < last.MemoryLimit || l.Connections < last.Connections || l.Generation < last.Generation || l.FrameCache < last.FrameCache || l.GOGC < last.GOGC {
			t.Fatalf("at %s: %+v after %+v", size(ram), l, last)
		}
		if used := int64(l.Connections)*perConnection + l.FrameCache + 2*l.Generation + l.LogRing; used > l.MemoryLimit*2/3 {
			t.Fatalf("at %s: %s planned of %s", size(ram), size(used), size(l.MemoryLimit))
		}
		last = l
	}
}

func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRead(t *testing.T) {
	const meminfo = "MemTotal:         125432 kB\nMemFree:           10000 kB\nMemAvailable:      70000 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Facts
	}{
		{"no groups", map[string]string{"proc/meminfo": meminfo}, Facts{MemTotal: 125432 << 10, MemAvailable: 70000 << 10}},
		{"nothing", nil, Facts{}},
		{"version 2, limit above us", map[string]string{
			"proc/self/cgroup":                                       "0::/system.slice/edgepost.service\n",
			"sys/fs/cgroup/system.slice/memory.max":                  "67108864\n",
			"sys/fs/cgroup/system.slice/cpu.max":                     "max 100000\n",
			"sys/fs/cgroup/system.slice/edgepost.service/memory.max": "max\n",
			"sys/fs/cgroup/system.slice/edgepost.service/cpu.max":    "25000 100000\n",
		}, Facts{MemLimit: 64 * mib, CPUQuota: 0.25}},
		{"version 2, container", map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "33554432", "sys/fs/cgroup/cpu.max": "150000 100000",
		}, Facts{MemLimit: 32 * mib, CPUQuota: 1.5}},
		{"version 1", map[string]string{
			"proc/self/cgroup":                                      "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":            "67108864",
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":            "-1",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":           "100000",
			"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us":         "50000",
			"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us":        "100000",
		}, Facts{MemLimit: 64 * mib, CPUQuota: 0.5}},
		{"nonsense", map[string]string{
			"proc/meminfo": "MemTotal: x\n\nMemAvailable", "proc/self/cgroup": "x\n0::/../../..\n::\n", "sys/fs/cgroup/memory.max": "-5", "sys/fs/cgroup/cpu.max": "1 0",
		}, Facts{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.CPUs = runtime.NumCPU()
			if got := Read(machine(t, c.files), filepath.Join(t.TempDir(), "missing")); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestReadThisMachine(t *testing.T) {
	data := machine(t, map[string]string{"outbox/g1/1": "12345", "x": "6"})
	f := Read("/", data)
	if f.MemTotal <= 0 || f.CPUs < 1 || f.DiskTotal <= 0 || f.DiskFree > f.DiskTotal || f.DataUsed != 6 {
		t.Errorf("%+v", f)
	}
	if l := Decide(f); l.MemoryLimit < minShare || len(l.Why) < 4 {
		t.Errorf("%+v", l)
	}
}
