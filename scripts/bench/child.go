package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// child is this program as one of its own children.
func child(name string, args []string) error {
	if name != "cgroup" {
		signal.Ignore(os.Interrupt) // Ctrl-C is the parent's, who ends us
	}
	a := arguments(args)
	switch name {
	case "edgepost-publish":
		return edgepostPublish(a)
	case "edgepost-encryption":
		return edgepostEncryption(a)
	case "edgepost-heap":
		return edgepostHeap(a)
	case "nats-publish":
		return natsPublish(a)
	case "nats-server":
		return natsServe(a)
	case "fsync":
		return fsyncLoop(a)
	case "bare-fanout":
		return bareFan(a)
	case "bare-idle":
		return bareIdle(a)
	case "http-sink":
		return httpSink(a)
	case "cgroup":
		return enterGroup(args)
	}
	return fmt.Errorf("unknown child %q", name)
}

// arguments of a child, by place; the parent makes them, so a bad one is a mistake here.
type arguments []string

func (a arguments) text(i int) string {
	if i < len(a) {
		return a[i]
	}
	return ""
}

func (a arguments) number(i int) int {
	n, _ := strconv.Atoi(a.text(i)) // 0 then
	return n
}

func (a arguments) span(i int) time.Duration {
	d, _ := time.ParseDuration(a.text(i)) // 0 then
	return d
}

func answer(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// heap is what lives in a process's Go heap.
type heap struct {
	Alloc int64         `json:"alloc"` // bytes of live objects
	Stack int64         `json:"stack"`
	Sys   int64         `json:"sys"`   // everything that the runtime took
	Start time.Duration `json:"start"` // how long the start took
}

func readHeap() heap {
	debug.FreeOSMemory() // collects, too
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return heap{Alloc: int64(m.HeapAlloc), Stack: int64(m.StackInuse), Sys: int64(m.Sys)}
}

// obey answers the parent's lines until it is gone: "heap".
func obey() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := answer(readHeap()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// enterGroup puts this process into control groups and becomes the command behind "--".
func enterGroup(args []string) error {
	for i, dir := range args {
		if dir == "--" {
			return syscall.Exec(args[i+1], args[i+1:], os.Environ())
		}
		if err := os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("no command")
}
