package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTime is how long a process may take to end by itself.
const stopTime = 20 * time.Second

// process is a server that was started here. It dies with this program, whatever happens to that.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// spawn starts a command whose output goes to a file.
func spawn(logFile string, args []string) (*process, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	return begin(cmd)
}

func begin(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() { // end waits for it
		defer close(p.ended)
		_ = cmd.Wait() // how it ended stands in its log
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) cpu() float64 { return cpuSeconds(p.pid()) }

// end signals the process and waits for it; one that does not end is killed. A nil process has ended.
func (p *process) end(sig syscall.Signal) {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// child runs one of this program's children to its end and reads its answer. args are joined to
// strings.
func (b *bench) child(ctx context.Context, into any, name string, args ...any) error {
	cmd := exec.CommandContext(ctx, b.self, childArgs(name, args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return json.Unmarshal(out, into)
}

func childArgs(name string, args []any) []string {
	list := []string{"child", name}
	for _, a := range args {
		list = append(list, fmt.Sprint(a))
	}
	return list
}

// talker is a child that answers lines on its standard input, one JSON value each.
type talker struct {
	*process
	in  io.WriteCloser
	out *json.Decoder
}

// talk starts such a child and reads the first answer, which says that it is ready.
func (b *bench) talk(into any, name string, args ...any) (*talker, error) {
	cmd := exec.Command(b.self, childArgs(name, args)...)
	cmd.Stderr = b.log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, w, err := os.Pipe() // not StdoutPipe, which Wait closes under the reader
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	p, err := begin(cmd)
	w.Close()
	if err != nil {
		return nil, err
	}
	t := &talker{p, in, json.NewDecoder(out)}
	if err := t.out.Decode(into); err != nil {
		p.end(syscall.SIGKILL)
		return nil, fmt.Errorf("child %s: %w", name, err)
	}
	return t, nil
}

func (t *talker) ask(line string, into any) error {
	if _, err := io.WriteString(t.in, line+"\n"); err != nil {
		return err
	}
	return t.out.Decode(into)
}
