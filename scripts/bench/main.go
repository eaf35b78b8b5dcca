package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bench is one run and what its sections share.
type bench struct {
	span       time.Duration // of one measurement
	quick      bool          // smaller numbers: does it run at all?
	publishers []int
	connectors []string // whose bridges are measured
	binary     string   // edgepost
	self       string   // this program
	disk       *disk
	dirs       int // directories handed out
	log        io.Writer
}

// errSkipped says why a section could not run here.
type errSkipped string

func (e errSkipped) Error() string { return string(e) }

// section is one group of rows. Its names are what -run selects by.
type section struct {
	name string
	run  func(ctx context.Context, b *bench) ([]table, error)
}

func sections() []section {
	return []section{
		{"publish", publishSection}, {"encryption", encryptionSection}, {"restart", restartSection}, {"connections", connectionsSection}, {"fanout", fanoutSection}, {"mqtt", mqttSection},
		{"latency", latencySection}, {"growth", growthSection}, {"cgroup", cgroupSection}, {"bridges", bridgesSection}, {"bridges-outage", outageSection},
	}
}

type flags struct {
	run, json, dir, binary string
	span                   time.Duration
	quick                  bool
	publishers, connectors string
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		if err := child(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench child %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	var f flags
	flag.StringVar(&f.run, "run", "", "run only the sections that match `REGEXP`: publish, encryption, restart, connections, fanout, mqtt, latency, growth, cgroup, bridges, bridges-outage")
	flag.DurationVar(&f.span, "time", 3*time.Second, "how long one measurement takes")
	flag.BoolVar(&f.quick, "quick", false, "small and short: does everything run? The figures mean little")
	flag.StringVar(&f.publishers, "publishers", "1,8,64,256", "numbers of publishers, in `LIST`")
	flag.StringVar(&f.connectors, "connectors", "mqtt,kafka,rabbitmq,amqp,stomp,webhook", "whose bridges are measured, in `LIST`")
	flag.StringVar(&f.json, "json", "", "write all figures to `FILE`")
	flag.StringVar(&f.dir, "dir", "", "work in `DIR` instead of the system's temporary directory")
	flag.StringVar(&f.binary, "binary", "bin/edgepost", "the edgepost to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE) // of | head, too: what it made is removed
	err := run(ctx, f)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (err error) {
	chosen, err := regexp.Compile(f.run)
	if err != nil {
		return fmt.Errorf("flag -run: %w", err)
	}
	b := &bench{span: f.span, quick: f.quick, log: os.Stderr, connectors: strings.Split(f.connectors, ",")}
	if f.quick {
		b.span = min(f.span, 500*time.Millisecond)
	}
	for n := range strings.SplitSeq(f.publishers, ",") {
		k, err := strconv.Atoi(n)
		if err != nil || k < 1 || k > 1000 {
			return fmt.Errorf("flag -publishers: %q is not a number from 1 to 1000", n)
		}
		b.publishers = append(b.publishers, k)
	}
	if b.binary, err = filepath.Abs(f.binary); err != nil {
		return err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("no edgepost to measure: %w; build it, or name it with -binary", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	raiseFileLimit()
	work, err := os.MkdirTemp(f.dir, "edgepost-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if b.disk, err = makeDisk(ctx, work, b.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.disk.close()) }()
	return b.measure(ctx, chosen, f.json)
}

func (b *bench) measure(ctx context.Context, chosen *regexp.Regexp, jsonFile string) error {
	r := newReport(b)
	fmt.Println(r.Machine.markdown())
	var failed error
	for _, s := range sections() {
		if !chosen.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		fmt.Fprintf(b.log, "bench: %s\n", s.name)
		tables, err := s.run(ctx, b)
		var skipped errSkipped
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.As(err, &skipped):
			tables, err = append(tables, table{Title: s.name, Notes: []string{"SKIP: " + skipped.Error()}}), nil
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			fmt.Fprintf(b.log, "bench: %s failed: %v\n", s.name, err)
		}
		for i := range tables {
			tables[i].Section = s.name
			fmt.Println(tables[i].markdown())
		}
		r.Tables = append(r.Tables, tables...)
		fmt.Fprintf(b.log, "bench: %s took %.0f s\n", s.name, time.Since(began).Seconds())
	}
	r.finish()
	fmt.Printf("Took %.0f s; load average %s at the beginning, %s at the end.\n", r.Seconds, r.LoadBefore, r.LoadAfter)
	if jsonFile == "" {
		return failed
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(jsonFile, append(text, '\n'), 0o644)
	}
	return errors.Join(failed, err)
}

// dir is a new empty directory on the measured file system.
func (b *bench) dir() (string, error) {
	b.dirs++
	d := filepath.Join(b.disk.path, fmt.Sprintf("%03d", b.dirs))
	return d, os.Mkdir(d, 0o700)
}

// raiseFileLimit lets 5,000 connections have both their ends.
func raiseFileLimit() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // a section that needs more will say so
	}
}
