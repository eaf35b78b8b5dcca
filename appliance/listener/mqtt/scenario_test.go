package mqtt

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/listener/trial"
	"edgepost/appliance/message"
)

// TestScenarios replays testdata/*.txt. Each file holds scenarios; each begins with "== name" and runs
// in its own bubble with its own server. The lines:
//
//	set OPTION=VALUE …     options of the server, before the first dial
//	dial NAME V            a connection of version 3, 4 or 5; later lines are about it until "use NAME"
//	> PACKET               a packet in the words of build; REPEAT(x,n) is x n times
//	>hex BYTES             raw bytes
//	< PACKET               the next packet in the words of show; a word may end with *
//	silent                 nothing more has come
//	closed                 the connection has ended, and nothing more came before
//	= EVENT                the core saw this next (others before it are skipped)
//	none                   the core saw nothing more
//	deliver LINK SEQ TOPIC PAYLOAD [q=N] [attempt=N] [expires=D] [ttl=D] [retained] [retain] [direct] [text] [ct=] [client=] [from=] [refused]
//	will CLIENT SECONDS TOPIC PAYLOAD   a will that a killed appliance left, before the first dial
//	lost LINK CAUSE, hold, release [reverse], refuse CODE, accept, retained TOPIC PAYLOAD, delay D
//	kick PRINCIPAL COUNT, stop, hangup, wait D, pause, resume, stat NAME=N
//
// LINK is "session:CLIENT", "inbox:DEVICE" or "share:GROUP:FILTER".
func TestScenarios(t *testing.T) {
	trial.Scenarios(t, "testdata/*.txt", func(t *testing.T, body string) {
		synctest.Test(t, func(t *testing.T) { replay(t, body) })
	})
}

type player struct {
	t     *testing.T
	core  *fakeCore
	o     Options
	s     *Server
	ln    *pipeListener
	wires map[string]*wire
	w     *wire
	got   map[*wire][]string
	done  chan error // of Serve
}

func replay(t *testing.T, body string) {
	core := newFakeCore()
	n := 0
	p := &player{t: t, core: core, wires: map[string]*wire{}, got: map[*wire][]string{}, ln: newPipeListener(), done: make(chan error, 1)}
	p.o = Options{
		Authenticator: core, Publisher: core, Sessions: core, Subscriber: core, Wills: core, Log: slog.New(slog.DiscardHandler), Version: "1.2",
		Reaches:  func(t message.Topic) bool { return t != "nobody" },
		Owed:     func(t message.Topic) bool { return message.Filter("device/lamp1/in/#").Match(t) },
		Census:   func() Census { return Census{Away: 3, Shared: 2, Retained: 5, Owed: 40} },
		ClientID: func() string { n++; return "auto" + strconv.Itoa(n) },
	}
	defer p.stop()
	for i, line := range strings.Split(body, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := p.step(line); err != nil {
			t.Fatalf("line %d: %s\n%v", i+2, line, err)
		}
		synctest.Wait()
		if p.s != nil {
			for _, s := range p.s.all() {
				checkSession(t, s)
			}
		}
	}
}

func (p *player) stop() {
	if p.s == nil {
		return
	}
	p.core.release(false)
	for _, w := range p.wires {
		_ = w.conn.Close()
		w.pause(false)
	}
	if err := p.s.Close(p.t.Context()); err != nil {
		p.t.Errorf("close: %v", err)
	}
	if err := <-p.done; !errors.Is(err, ErrClosed) {
		p.t.Errorf("serve: %v", err)
	}
	for name, a := range p.core.links {
		if !a.closed {
			p.t.Errorf("attachment %s was not given back", name)
		}
	}
	if st := p.s.Stats(); st.Connections != 0 || st.Clients != 0 || st.Subscriptions != 0 {
		p.t.Errorf("after Close: %+v", st)
	}
}

func (p *player) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "set":
		return p.set(rest)
	case "dial":
		return p.dial(rest)
	case "use":
		p.w = p.wires[rest]
	case ">":
		b, err := build(rest, p.w.v)
		if err != nil {
			return err
		}
		return p.w.raw(b)
	case ">hex":
		b, err := hex.DecodeString(strings.ReplaceAll(expand(rest), " ", ""))
		if err != nil {
			return err
		}
		return p.w.raw(b)
	case "<":
		p.collect()
		if l := p.got[p.w]; len(l) == 0 {
			return fmt.Errorf("nothing came; %w", p.w.ended())
		} else if p.got[p.w] = l[1:]; !matchLine(rest, l[0]) {
			return fmt.Errorf("have %s", l[0])
		}
	case "silent":
		if p.collect(); len(p.got[p.w]) > 0 {
			return fmt.Errorf("have %q", p.got[p.w])
		}
	case "closed":
		return p.closed()
	default:
		return p.coreStep(word, rest)
	}
	return nil
}

func (p *player) coreStep(word, rest string) error {
	switch word {
	case "=":
		return p.event(rest)
	case "none":
		p.core.mu.Lock()
		defer p.core.mu.Unlock()
		if len(p.core.events) > 0 {
			return fmt.Errorf("the core saw %q", p.core.events)
		}
	case "deliver":
		return p.deliver(rest)
	case "lost":
		name, cause, _ := strings.Cut(rest, " ")
		causes := map[string]courier.Cause{"taken-over": courier.TakenOver, "removed": courier.Removed, "stopping": courier.Stopping}
		a := p.core.attachment(strings.ReplaceAll(name, ":", " "))
		a.closed = true
		a.link.Lost(causes[cause])
	case "hold":
		p.core.mu.Lock()
		p.core.hold = true
		p.core.mu.Unlock()
	case "release":
		p.core.release(rest == "reverse")
	case "refuse":
		p.core.refuse = rest
	case "accept":
		p.core.refuse = ""
	case "retained":
		topic, payload, _ := strings.Cut(rest, " ")
		m := message.New(message.Topic(topic), []byte(payload))
		m.Retain = true
		p.core.retained = append(p.core.retained, m)
	case "will":
		p.keepWill(strings.Fields(rest))
	case "delay":
		d, err := time.ParseDuration(rest)
		p.core.delay = d
		return err
	default:
		return p.serverStep(word, rest)
	}
	return nil
}

// keepWill leaves a will as if the appliance had been killed: its client, delay in seconds, topic and
// payload; the topic "-" makes it unreadable.
func (p *player) keepWill(f []string) {
	delay, _ := strconv.Atoi(f[1])
	m := message.New(message.Topic(f[2]), []byte(f[3]))
	m.QoS, m.Retain, m.ContentType, m.TTL = message.AtLeastOnce, true, "text/plain", time.Minute
	body, err := (&will{message: m, delay: time.Duration(delay) * time.Second}).form(noExpiry)
	if err != nil {
		p.t.Fatal(err)
	}
	if f[2] == "-" {
		body = []byte(`{"publish":"MAA="}`)
	}
	p.core.wills[f[0]] = courier.KeptWill{Principal: "anonymous", Client: f[0], Token: "t", Body: body}
}

func (p *player) serverStep(word, rest string) error {
	switch word {
	case "kick":
		who, want, _ := strings.Cut(rest, " ")
		if n := p.s.Kick(who); strconv.Itoa(n) != want {
			return fmt.Errorf("kicked %d", n)
		}
	case "stop":
		go func() { _ = p.s.Close(context.Background()) }()
	case "wait":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return err
	case "hangup":
		return p.w.conn.Close()
	case "pause":
		p.w.pause(true)
	case "resume":
		p.w.pause(false)
	case "stat":
		name, want, _ := strings.Cut(rest, "=")
		if got := fmt.Sprint(reflect.ValueOf(p.s.Stats()).FieldByName(name)); got != want {
			return fmt.Errorf("have %s", got)
		}
	default:
		return fmt.Errorf("unknown line")
	}
	return nil
}

func (p *player) set(rest string) error {
	v := reflect.ValueOf(&p.o).Elem()
	for kv := range strings.FieldsSeq(rest) {
		k, s, _ := strings.Cut(kv, "=")
		f := v.FieldByName(k)
		if !f.IsValid() {
			return fmt.Errorf("no option %s", k)
		}
		if d, err := time.ParseDuration(s); err == nil && f.Type() == reflect.TypeFor[time.Duration]() {
			f.SetInt(int64(d))
			continue
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return err
		}
		f.SetInt(n)
	}
	return nil
}

func (p *player) dial(rest string) error {
	if p.s == nil {
		p.s = New(p.o)
		p.s.RestoreWills()
		go func() { p.done <- p.s.Serve(p.ln) }()
	}
	name, v, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(v)
	if err != nil {
		return err
	}
	w := &wire{conn: p.ln.dial(), v: packet.Version(n)}
	p.w, p.wires[name] = w, w
	go w.listen()
	return nil
}

func (p *player) collect() {
	synctest.Wait()
	p.got[p.w] = append(p.got[p.w], p.w.take()...)
}

func (p *player) closed() error {
	p.collect()
	time.Sleep(closeWait + time.Millisecond) // a pipe has no half-close that would tell us earlier
	p.collect()
	if l := p.got[p.w]; len(l) > 0 {
		return fmt.Errorf("have %q", l)
	}
	if err := p.w.ended(); err == nil {
		return fmt.Errorf("the connection is still open")
	} else if strings.HasPrefix(err.Error(), "server sent") {
		return err
	}
	return nil
}

func (p *player) event(want string) error {
	p.core.mu.Lock()
	defer p.core.mu.Unlock()
	for i, e := range p.core.events {
		if matchLine(want, e) {
			p.core.events = p.core.events[i+1:]
			return nil
		}
	}
	return fmt.Errorf("the core saw %q", p.core.events)
}

func (p *player) deliver(rest string) error {
	f := strings.Fields(rest)
	seq, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return err
	}
	m := message.New(message.Topic(f[2]), []byte(expand(f[3])))
	m.QoS, m.Seq, m.From = message.ExactlyOnce, seq, "other"
	if seq != 0 {
		m.ID = message.ID{Epoch: testEpoch, Seq: seq}
	}
	d, want := courier.Delivery{Seq: seq, Attempt: 1}, true
	for _, opt := range f[4:] {
		k, v, _ := strings.Cut(opt, "=")
		n, _ := strconv.Atoi(v)
		if key, ok := strings.CutPrefix(k, "u."); ok {
			m.Properties = append(m.Properties, message.Property{Key: key, Value: v})
			continue
		}
		if key, ok := strings.CutPrefix(k, "x."); ok {
			m.Event.Extensions = append(m.Event.Extensions, message.Property{Key: key, Value: v})
			continue
		}
		switch k {
		case "event":
			m.Event.ID, m.Event.Source, m.Event.Type = v, "/shop", "sold"
		case "q":
			m.QoS = message.QoS(n)
		case "attempt":
			d.Attempt = n
		case "expires":
			d.ExpiresIn, err = time.ParseDuration(v)
		case "ttl":
			m.TTL, err = time.ParseDuration(v)
		case "priority":
			m.Priority = uint8(n)
		case "retained", "retain":
			d.Retained, m.Retain = k == "retained", true
		case "direct":
			d.Direct = true
		case "ct":
			m.ContentType = v
		case "text":
			m.Text = true
		case "rt":
			m.Response = message.Topic(v)
		case "cd":
			m.Correlation = []byte(v)
		case "client":
			m.Client = v
		case "from":
			m.From = v
		case "refused":
			want = false
		default:
			return fmt.Errorf("no option %s", k)
		}
		if err != nil {
			return err
		}
	}
	a := p.core.attachment(strings.ReplaceAll(f[0], ":", " "))
	if a == nil {
		return fmt.Errorf("no such link")
	}
	d.Item = courier.NewItem(m)
	if got := hand(a.link, d); got != want {
		return fmt.Errorf("the session said %v", got)
	}
	return nil
}

// hand delivers one message, as a turn of the shard with nothing more does.
func hand(l courier.Link, d courier.Delivery) bool {
	taken := l.Deliver(d)
	l.Flush()
	return taken
}
