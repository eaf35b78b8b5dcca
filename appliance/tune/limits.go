package tune

import (
	"fmt"
	"math"
	"strconv"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
)

// Limits are what the appliance allows itself. Sizes are in bytes.
type Limits struct {
	Profile     string // tiny, small, medium, large
	MemoryLimit int64  // GOMEMLIMIT: soft, for the Go heap and stacks
	GOGC        int    // percent
	MaxProcs    int    // GOMAXPROCS
	Connections int    // open at the same time, over all listeners
	Generation  int64  // of the log; the write-ahead log keeps one generation in memory
	LogBudget   int64  // the log's share of the disk
	FrameCache  int64  // decoded frames of the log
	ReadBuffer  int    // of one WebSocket
	WriteBuffer int    // of one WebSocket, pooled
	Compressors int    // running at the same time
	LogRing     int64  // the appliance's own log lines

	Why []Reason // one for each choice, for the dashboard
}

// Reason says why a limit is what it is.
type Reason struct {
	Limit string `json:"limit"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

func (r Reason) String() string { return r.Limit + " " + r.Value + ": " + r.Why }

type profile struct {
	name                    string
	from                    int64 // the memory share at which it begins
	gogc                    int
	readBuffer, writeBuffer int
	compressors             int
	logRing                 int64
}

// profiles returns the measured table, the largest first.
func profiles() []profile {
	return []profile{
		{"large", 192 * mib, 100, 4096, 4096, math.MaxInt32, 4 * mib},
		{"medium", 48 * mib, 100, 1024, 1024, 4, 1 * mib},
		{"small", 24 * mib, 75, 512, 1024, 2, 256 * kib},
		{"tiny", 0, 50, 512, 512, 1, 64 * kib},
	}
}

// Bounds of the decisions.
const (
	minShare       = 12 * mib // idle and a hundred devices
	assumedRAM     = 128 * mib
	assumedDisk    = 64 * mib
	perConnection  = 16 * kib // TLS, its buffers and its queue; a quarter of the share goes here
	minConnections = 100
	maxConnections = 10_000
	minGeneration  = 128 * kib
	maxGeneration  = 1 * mib
	minFrameCache  = 256 * kib
	maxFrameCache  = 16 * mib
	minLogBudget   = 4 * mib
	maxLogBudget   = 4 << 10 * mib
)

// Decide turns facts into limits. It depends on nothing else; unknown facts count as a small router's.
func Decide(f Facts) Limits {
	var l Limits
	because := func(limit, value, why string) { l.Why = append(l.Why, Reason{limit, value, why}) }

	share, ram, reason := memory(f)
	l.MemoryLimit = share
	because("memory", size(share), reason)

	var p profile
	for _, p = range profiles() {
		if share >= p.from {
			break
		}
	}
	l.Profile, l.GOGC, l.ReadBuffer, l.WriteBuffer, l.LogRing = p.name, p.gogc, p.readBuffer, p.writeBuffer, p.logRing
	because("profile", p.name, "it begins at a memory limit of "+size(p.from))

	cpus := max(f.CPUs, 1)
	l.MaxProcs = cpus
	if f.CPUQuota > 0 && f.CPUQuota < float64(cpus) {
		l.MaxProcs = int(math.Ceil(f.CPUQuota)) // Go itself takes at least 2
		because("processors", fmt.Sprintf("%d of %d", l.MaxProcs, cpus), fmt.Sprintf("the control group allows %.2f", f.CPUQuota))
	}
	l.Compressors = min(p.compressors, l.MaxProcs)

	l.Connections = int(clamp(share/4/perConnection, minConnections, maxConnections))
	because("connections", strconv.Itoa(l.Connections), "a quarter of the memory limit, "+size(perConnection)+" each")
	l.Generation = clamp(ram/256, minGeneration, maxGeneration)
	because("generation", size(l.Generation), "1/256 of "+size(ram))
	l.FrameCache = clamp(share/16, minFrameCache, maxFrameCache)

	l.LogBudget, reason = disk(f, share)
	because("log", size(l.LogBudget), reason)
	return l
}

// memory returns our share of the memory, and the memory that there is at all.
func memory(f Facts) (share, ram int64, reason string) {
	ram = f.MemTotal
	if ram <= 0 {
		ram = assumedRAM
	}
	share, reason = ram/4, "a quarter of the machine's "+size(ram)
	// What is available counts our own generous page cache too, so it is not all ours.
	if a := f.MemAvailable / 10 * 4; f.MemAvailable > 0 && a < share {
		share, reason = a, "40 % of the "+size(f.MemAvailable)+" that are available"
	}
	// A control group is ours alone; what is left of it holds the binary and the kernel's buffers.
	if a := f.MemLimit / 4 * 3; f.MemLimit > 0 && a < share {
		share, reason = a, "three quarters of the control group's "+size(f.MemLimit)
	}
	if f.MemLimit > 0 {
		ram = min(ram, f.MemLimit)
	}
	if share < minShare {
		share, reason = minShare, "the least that works; there is less than the appliance should have ("+reason+")"
	}
	return share, ram, reason
}

// disk returns the log's budget. What the data directory holds already counts as free, or the
// budget would shrink with every start.
func disk(f Facts, share int64) (budget int64, reason string) {
	free := f.DiskFree + f.DataUsed
	switch {
	case f.DiskTotal <= 0:
		return assumedDisk, "the disk's size is unknown"
	case f.InMemory:
		budget, reason = min(share/2, free/2), "the data directory is in memory and does not survive a power cut"
	case f.DiskTotal/4 < free/2:
		budget, reason = f.DiskTotal/4, "a quarter of the disk's "+size(f.DiskTotal)
	default:
		budget, reason = free/2, "half of the "+size(free)+" that are free or ours"
	}
	if bounded := clamp(budget, minLogBudget, maxLogBudget); bounded != budget {
		return bounded, fmt.Sprintf("%s, bounded by %s and %s", reason, size(minLogBudget), size(maxLogBudget))
	}
	return budget, reason
}

func clamp(n, low, high int64) int64 { return min(max(n, low), high) }

// size writes a size for people.
func size(n int64) string {
	switch {
	case n >= 10<<10*mib:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10*mib || n >= mib && n%mib == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
