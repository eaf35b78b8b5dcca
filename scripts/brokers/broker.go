package brokers

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// The account that every broker with accounts has.
const (
	User     = "edge"
	Password = "secret" // in no broker that anybody else can reach
)

// MaxMessage is the largest message that RabbitMQ and Mosquitto take here, and ActiveMQ over STOMP, in bytes: less than
// the gateway's.
const MaxMessage = 200_000

// startLimit is ten times what the slowest one took on two busy cores.
const startLimit = 3 * time.Minute

// Broker is one broker with its files; Start and Kill as often as you like. Its methods are called by one goroutine
// at a time, but for Addr and Log.
type Broker struct {
	Name string

	dir     string
	addrs   map[string]string // by protocol
	front   string            // see Front
	prepare []program         // run once, in order, before the first start
	beside  []program         // run as long as the broker does
	main    program
	ready   string // in the output when it serves; "" the ports tell

	prepared bool
	running  []*process
	from     int64 // where in the log the present run begins
}

// program is what to run.
type program struct {
	args []string
	env  []string // besides ours
}

type process struct {
	cmd *exec.Cmd
	end chan struct{} // closed when it has ended
}

// New writes the broker's configuration into the directory, which must exist. An error says what is missing on this
// machine.
func New(name, dir string) (*Broker, error) {
	makers := map[string]func(*Broker) error{
		"kafka": kafka, "artemis": artemis, "activemq": activemq, "activemq-debian": debianActiveMQ, "rabbitmq": rabbitmq, "mosquitto": mosquitto,
	}
	make, ok := makers[name]
	if !ok {
		return nil, fmt.Errorf("there is no broker %q", name)
	}
	b := &Broker{Name: name, dir: dir, addrs: map[string]string{}}
	if err := make(b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// Addr is host:port of a protocol, "" when the broker does not speak it. It stays the same over restarts.
func (b *Broker) Addr(protocol string) string { return b.addrs[protocol] }

// Front is the address under which Kafka's port kafka+behind tells its clients to reach it: for a proxy of the test.
func (b *Broker) Front() string { return b.front }

// Log is what the broker printed since it was made.
func (b *Broker) Log() string {
	text, err := os.ReadFile(b.file("output"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (b *Broker) file(name string) string { return filepath.Join(b.dir, name) }

// Listen listens on the loopback interface, on a free port that no outgoing connection is given (Linux takes those from
// 32768 on): so it is still free for another process when the listener is closed.
func Listen() (l net.Listener, err error) {
	for range 100 {
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(22_000))); err == nil {
			return l, nil
		}
	}
	return nil, err
}

// listen chooses a free port for each protocol.
func (b *Broker) listen(protocols ...string) error {
	for _, p := range protocols {
		l, err := Listen()
		if err != nil {
			return err
		}
		defer l.Close() // after all are chosen
		b.addrs[p] = l.Addr().String()
	}
	return nil
}

// Start starts the broker and returns when it serves.
func (b *Broker) Start() error {
	out, err := os.OpenFile(b.file("output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if !b.prepared {
		for _, p := range b.prepare {
			if err := p.command(b.dir, out).Run(); err != nil {
				return fmt.Errorf("%q: %w\n%s", p.args, err, b.Log())
			}
		}
		b.prepared = true
	}
	if b.from, err = out.Seek(0, 2); err != nil {
		return err
	}
	for _, p := range append(b.beside, b.main) {
		r := &process{cmd: p.command(b.dir, out), end: make(chan struct{})}
		if err := start(r); err != nil {
			b.Kill()
			return err
		}
		b.running = append(b.running, r)
	}
	if err := b.wait(); err != nil {
		b.Kill()
		return fmt.Errorf("%w\n%s", err, b.Log())
	}
	return nil
}

func (p program) command(dir string, out *os.File) *exec.Cmd {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start keeps the thread that started the process for as long as the process lives: when it ends, so does the process.
func start(r *process) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := r.cmd.Start()
		started <- err
		if err == nil {
			_ = r.cmd.Wait() // killed is its usual end
			close(r.end)
		}
	}()
	return <-started
}

// wait returns when every port accepts and the output says so.
func (b *Broker) wait() error {
	last := b.running[len(b.running)-1]
	for until := time.Now().Add(startLimit); time.Now().Before(until); {
		select {
		case <-last.end:
			return errors.New("it ended at its start")
		case <-time.After(50 * time.Millisecond):
		}
		if b.serves() {
			return nil
		}
	}
	return fmt.Errorf("it does not serve after %v", startLimit)
}

func (b *Broker) serves() bool {
	if b.ready != "" {
		text, err := os.ReadFile(b.file("output"))
		if err != nil || !bytes.Contains(text[min(b.from, int64(len(text))):], []byte(b.ready)) {
			return false
		}
	}
	for _, a := range b.addrs {
		c, err := net.DialTimeout("tcp", a, time.Second)
		if err != nil {
			return false
		}
		c.Close()
	}
	return true
}

// Kill is kill -9 of the broker with all its processes; it returns when they have ended.
func (b *Broker) Kill() { b.signal(syscall.SIGKILL) }

// Stop asks the broker to end, kills it after half a minute, and returns when it has ended.
func (b *Broker) Stop() {
	if len(b.running) > 0 {
		last := b.running[len(b.running)-1]
		_ = syscall.Kill(-last.cmd.Process.Pid, syscall.SIGTERM) // it may have ended
		select {
		case <-last.end:
		case <-time.After(30 * time.Second):
		}
	}
	b.Kill()
}

// Freeze stops the broker as a machine that hangs does, connections open; Thaw lets it go on.
func (b *Broker) Freeze() { b.send(syscall.SIGSTOP) }

// Thaw ends what Freeze began.
func (b *Broker) Thaw() { b.send(syscall.SIGCONT) }

func (b *Broker) send(sig syscall.Signal) {
	for _, r := range b.running {
		_ = syscall.Kill(-r.cmd.Process.Pid, sig) // it may have ended
	}
}

func (b *Broker) signal(sig syscall.Signal) {
	b.send(sig)
	for _, r := range b.running {
		<-r.end
	}
	b.running = nil
}

// root is the repository's directory, looked for from the working directory up.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "scripts", "brokers")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("the working directory is not inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

func (b *Broker) write(name, text string) error {
	return os.WriteFile(b.file(name), []byte(text), 0o600)
}
