package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	groupMemory = 64 << 20
	groupRate   = 200 // durable messages a second
)

// squeezed is how edgepost did in a small control group.
type squeezed struct {
	Devices  int      `json:"devices"`
	Messages int      `json:"messages"`
	Killed   bool     `json:"killed"`
	Stored   quantile `json:"stored"`
	Received quantile `json:"received"`
	Peak     int64    `json:"memory_peak"` // page cache included
	RSS      float64  `json:"rss"`
	CPU      float64  `json:"cpu_us_per_message"`
}

func cgroupSection(ctx context.Context, b *bench) ([]table, error) {
	devices, span := 500, 20*time.Second
	if b.quick {
		devices, span = 50, 2*time.Second
	}
	c, err := makeGroup()
	if err != nil {
		return nil, errSkipped(err.Error())
	}
	m, err := b.squeeze(ctx, c, devices, span)
	if err = errors.Join(err, c.remove()); err != nil {
		return nil, err
	}
	lived := "no OOM"
	if m.Killed {
		lived = "OOM-killed"
	}
	return []table{{
		Title: "A control group of 64 MiB and a quarter of one core",
		Rows: []row{
			alone(fmt.Sprintf("%d devices on WebSockets, %d durable messages/s for %v: %s, p99 of the publisher's answer", devices, groupRate, span, lived),
				figure{float64(m.Stored.P99) / 1e6, "ms", "p50 " + millis(m.Stored.P50)}, "no OOM, ≤ 1 s"),
			alone("  received by the device, p99", figure{float64(m.Received.P99) / 1e6, "ms", "p50 " + millis(m.Received.P50)}, ""),
			alone("  resident memory", figure{m.RSS / (1 << 20), "MiB", "group's peak with page cache " + mebi(m.Peak)}, ""),
			alone("  CPU a message", figure{m.CPU, "µs", ""}, "≤ 1,250 µs is the quota"),
		},
		Figures: m,
	}}, nil
}

// group is a control group with a memory and a CPU limit: one directory of version 2, two of version 1.
type group struct {
	dirs []string
	v2   bool
}

// makeGroup makes the group, or says why it cannot.
func makeGroup() (*group, error) {
	name := fmt.Sprintf("edgepost-bench-%d", os.Getpid())
	const root = "/sys/fs/cgroup"
	c := new(group)
	controllers, err := os.ReadFile(root + "/cgroup.controllers")
	if err == nil && bytes.Contains(controllers, []byte("memory")) && bytes.Contains(controllers, []byte("cpu")) {
		c.v2 = true
		if err := c.add(filepath.Join(root, name), "memory.max", strconv.Itoa(groupMemory), "memory.swap.max", "0", "cpu.max", "25000 100000"); err != nil {
			return nil, err
		}
		return c, nil
	}
	if err := c.add(filepath.Join(root, "memory", name), "memory.limit_in_bytes", strconv.Itoa(groupMemory)); err != nil {
		return nil, err
	}
	if err := c.add(filepath.Join(root, "cpu", name), "cpu.cfs_period_us", "100000", "cpu.cfs_quota_us", "25000"); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

// add makes one directory and writes values into its files.
func (c *group) add(dir string, values ...string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("no control group can be made here: %w", err)
	}
	c.dirs = append(c.dirs, dir)
	for i := 0; i < len(values); i += 2 {
		err := os.WriteFile(filepath.Join(dir, values[i]), []byte(values[i+1]), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // no swap, no limit of it
			return errors.Join(fmt.Errorf("no control group can be limited here: %w", err), c.remove())
		}
	}
	return nil
}

func (c *group) remove() error {
	var failed error
	for _, dir := range c.dirs {
		err := os.Remove(dir)
		for range 50 { // the kernel takes a moment to forget the processes
			if err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
			err = os.Remove(dir)
		}
		failed = errors.Join(failed, err)
	}
	c.dirs = nil
	return failed
}

// killed says whether the group ran out of memory, peak the most it ever held.
func (c *group) killed() (oom bool, peak int64) {
	events, most := "memory.oom_control", "memory.max_usage_in_bytes"
	if c.v2 {
		events, most = "memory.events", "memory.peak"
	}
	text, _ := os.ReadFile(filepath.Join(c.dirs[0], events))
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok && strings.TrimSpace(n) != "0" {
			oom = true
		}
	}
	text, _ = os.ReadFile(filepath.Join(c.dirs[0], most))
	peak, _ = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return oom, peak
}

func (b *bench) squeeze(ctx context.Context, c *group, devices int, span time.Duration) (m squeezed, err error) {
	g, err := newGateway(b)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	g.under = append(append([]string{b.self, "child", "cgroup"}, c.dirs...), "--")
	if _, err := g.start(ctx); err != nil {
		return m, err
	}
	tokens, err := g.addDevices(ctx, 0, devices, nil)
	if err != nil {
		return m, err
	}
	n := int(span.Seconds() * groupRate)
	k := newClocked(n)
	k.pace, k.left[delivered] = groupRate, 0
	conns := make([]*wsConn, devices)
	var readers sync.WaitGroup
	defer func() {
		for _, w := range conns {
			if w != nil {
				w.close()
			}
		}
		readers.Wait()
	}()
	life := span + 5*grace
	if err := each(ctx, devices, 8, func(i int) (err error) {
		conns[i], err = dialWS(g.addr, helloAs(deviceName(i), tokens[i]), life)
		return err
	}); err != nil {
		return m, err
	}
	for _, w := range conns {
		readers.Go(func() { _ = k.takeMessages(w) }) // a reader that ends leaves messages missing, which counts
	}
	before := g.cpu()
	err = g.publishAtPace(ctx, k, nil, n, "", life, func(i int) string { return inboxTopic(i % devices) })
	if err == nil {
		err = k.wait(ctx)
	}
	r := k.result("edgepost", g.cpu()-before)
	m = squeezed{Devices: devices, Messages: n, Stored: r.Stored, Received: r.Received, CPU: r.CPU, RSS: resident(g.pid())}
	m.Killed, m.Peak = c.killed()
	if m.Killed {
		err = nil // that is the result
	}
	g.end(syscall.SIGKILL)
	return m, err
}
