package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// machine is where the figures were taken.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMiB  int64  `json:"memory_mib"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
	Edgepost   string `json:"edgepost"`
	Peer       string `json:"peer"`
}

func readMachine(b *bench) machine {
	m := machine{
		CPU: procValue("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), FileSystem: b.disk.what,
		Go: runtime.Version(), Peer: "NATS " + natsVersion,
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(procValue("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryMiB = kib >> 10
	}
	if v := mosquittoVersion(); v != "" {
		m.Peer += ", Mosquitto " + v
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if out, err := exec.Command(b.binary, "version").Output(); err == nil {
		m.Edgepost, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	return m
}

func (m machine) markdown() string {
	return fmt.Sprintf("%s beside %s, %s. Machine: %s, %d cores shared by server and load, %d MiB, Linux %s, %s.\n",
		m.Edgepost, m.Peer, m.Go, m.CPU, m.Cores, m.MemoryMiB, m.Kernel, m.FileSystem)
}

// procValue reads "name : value" from a file of /proc.
func procValue(file, name string) string {
	text, _ := os.ReadFile(file) // then the value is unknown
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(text)); len(f) > 0 {
		return f[0]
	}
	return "unknown"
}

// clockTick is USER_HZ, which is 100 on every architecture that Go has (see getconf CLK_TCK).
const clockTick = 100

// cpuSeconds is what a process has used so far, in user and kernel together.
func cpuSeconds(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / clockTick
}

// ownCPU is what this process has used so far.
func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// resident is a process's VmRSS in bytes.
func resident(pid int) float64 { return statusBytes(pid, "VmRSS") }

// own is the part of it that is the process's alone: heap and stacks, not the pages of files.
func own(pid int) float64 { return statusBytes(pid, "RssAnon") }

func statusBytes(pid int, key string) float64 {
	kib, _ := strconv.ParseFloat(strings.TrimSuffix(procValue(fmt.Sprintf("/proc/%d/status", pid), key), " kB"), 64)
	return kib * 1024
}
