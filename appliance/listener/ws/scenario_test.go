package ws

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/trial"
	"edgepost/appliance/message"
)

// TestScenarios replays testdata/*.txt. Each file holds scenarios, each begins with "== name" and runs in
// its own bubble with its own server. The lines:
//
//	set OPTION=VALUE …       options of the handler, before the first connect
//	connect [NAME] [H: V|…]  upgrade; later lines are about this connection until "use NAME"
//	status CODE WORD…        the upgrade was refused with this status; its problem has the words
//	> TEXT                   one text frame; "\n" separates objects; REPEAT(x,n) is x n times
//	>hex BYTES               raw bytes
//	frame HEAD TEXT          one masked frame with this first byte; TEXT may be hex:BYTES
//	< JSON                   the next object; "*" stands for any value
//	<ping, <pong TEXT        the next control frame
//	silent                   nothing more has come
//	closed CODE              a close frame with the code came and the connection ended; 0: ended without
//	= EVENT                  the core saw this next
//	deliver SUB SEQ TOPIC PAYLOAD [ct=…] [attempt=N] [expires=D] [refused]
//	lost SUB CAUSE, hold, release [reverse], early SEQ, kick PRINCIPAL COUNT, stop, hangup, stats, wait D, pause, resume, owner
func TestScenarios(t *testing.T) {
	trial.Scenarios(t, "testdata/*.txt", func(t *testing.T, body string) {
		synctest.Test(t, func(t *testing.T) { replay(t, body) })
	})
}

type player struct {
	t     *testing.T
	core  *fakeCore
	o     Options
	h     *Handler
	srv   *http.Server
	ln    *pipeListener
	owner bool
	wires map[string]*wire
	w     *wire
	got   map[*wire][]wireFrame
}

func replay(t *testing.T, body string) {
	core := newFakeCore()
	n := 0
	p := &player{t: t, core: core, wires: map[string]*wire{}, got: map[*wire][]wireFrame{}, ln: newPipeListener()}
	p.o = Options{
		Authenticator: core, Publisher: core, Subscriber: core, Epoch: testEpoch, Log: slog.New(slog.DiscardHandler),
		Session: func() string { n++; return "s" + strconv.Itoa(n) },
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
		if p.h != nil {
			for _, s := range p.h.all() {
				checkSession(t, s)
			}
		}
	}
}

func (p *player) stop() {
	if p.h == nil {
		return
	}
	for _, w := range p.wires {
		_ = w.conn.Close()
		w.mu.Lock()
		if w.paused != nil {
			close(w.paused)
			w.paused = nil
		}
		w.mu.Unlock()
	}
	if err := p.h.Close(p.t.Context()); err != nil {
		p.t.Errorf("close: %v", err)
	}
	_ = p.srv.Close()
	for n, a := range p.core.links {
		if !a.closed {
			p.t.Errorf("attachment %d was not given back", n)
		}
	}
}

func (p *player) start() {
	p.h = New(p.o)
	var handler http.Handler = p.h
	if p.owner {
		g := auth.NewGrant(auth.Owner, "", true, message.Rules{})
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.h.ServeHTTP(w, r.WithContext(auth.WithGrant(r.Context(), g)))
		})
	}
	p.srv = &http.Server{Handler: handler}
	go func() { _ = p.srv.Serve(p.ln) }()
}

func (p *player) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "set":
		return p.set(rest)
	case "owner":
		p.owner = true
	case "connect":
		return p.connect(rest)
	case "use":
		p.w = p.wires[rest]
	case "status":
		return p.status(rest)
	case ">":
		return p.w.text(expand(strings.NewReplacer(`\n`, "\n", `\r`, "\r").Replace(rest)))
	case ">hex":
		b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		if err != nil {
			return err
		}
		return p.w.raw(b)
	case "frame":
		return p.frame(rest)
	case "<":
		return p.expect(rest)
	case "<ping", "<pong":
		return p.control(word, rest)
	case "silent":
		if l := p.peek(); len(l) > 0 {
			return fmt.Errorf("have %q", l)
		}
	case "closed":
		return p.closed(rest)
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
		if e := p.core.taken(); len(e) > 0 {
			return fmt.Errorf("the core saw %q", e)
		}
	case "deliver":
		return p.deliver(rest)
	case "lost":
		sub, cause, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(sub)
		causes := map[string]courier.Cause{"taken-over": courier.TakenOver, "removed": courier.Removed, "stopping": courier.Stopping}
		a := p.core.attachment(n)
		a.link.Lost(causes[cause])
		a.closed = a.closed || cause == "removed" && n > 0 // nothing is left to give back
	case "hold":
		p.core.mu.Lock()
		p.core.hold = true
		p.core.mu.Unlock()
	case "release":
		p.core.release(rest == "reverse")
	case "early":
		seq, _ := strconv.ParseUint(rest, 10, 64)
		p.core.early = testMessage(seq, "device/lamp1/in/set", "1", "application/json")
	case "delay":
		d, err := time.ParseDuration(rest)
		p.core.delay = d
		return err
	default:
		return p.serverStep(word, rest)
	}
	return nil
}

func (p *player) serverStep(word, rest string) error {
	switch word {
	case "kick":
		who, want, _ := strings.Cut(rest, " ")
		if n := p.h.Kick(who); strconv.Itoa(n) != want {
			return fmt.Errorf("kicked %d", n)
		}
	case "stop":
		go func() { _ = p.h.Close(context.Background()) }()
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
	case "stats":
		s := p.h.Stats()
		if got := fmt.Sprintf("connections=%d dropped=%d slow=%d", s.Connections, s.Dropped, s.Slow); got != rest {
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

func (p *player) connect(rest string) error {
	if p.h == nil {
		p.start()
	}
	name, rest, _ := strings.Cut(rest, " ")
	var headers []string
	if rest != "" {
		headers = strings.Split(rest, "|")
	}
	w, err := dialWire(p.ln.dial(), headers...)
	if err != nil {
		return err
	}
	p.w, p.wires[name] = w, w
	if w.resp.StatusCode == http.StatusSwitchingProtocols {
		go w.listen()
	}
	return nil
}

func (p *player) status(rest string) error {
	words := strings.Fields(rest)
	var problem struct {
		Status       int
		Code, Detail string
	}
	resp := p.w.resp
	if strconv.Itoa(resp.StatusCode) != words[0] {
		return fmt.Errorf("have status %s", resp.Status)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != strings.Join(words[1:], " ") {
			return fmt.Errorf("have subprotocol %q", got)
		}
		if ext := resp.Header.Get("Sec-WebSocket-Extensions"); ext != "" {
			return fmt.Errorf("accepted the extension %q", ext)
		}
		return nil
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		return fmt.Errorf("have content type %q", ct)
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		return err
	}
	_ = p.w.conn.Close()
	for _, word := range words[1:] {
		if problem.Code != word && !strings.Contains(problem.Detail, word) {
			return fmt.Errorf("have %+v", problem)
		}
	}
	return nil
}

// expand replaces REPEAT(x,n).
func expand(s string) string {
	for {
		before, rest, ok := strings.Cut(s, "REPEAT(")
		if !ok {
			return s
		}
		args, after, _ := strings.Cut(rest, ")")
		i := strings.LastIndexByte(args, ',')
		n, _ := strconv.Atoi(args[i+1:])
		s = before + strings.Repeat(strings.ReplaceAll(args[:i], `\,`, ","), n) + after
	}
}

func (p *player) frame(rest string) error {
	head, payload, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(head, 0, 8)
	if err != nil {
		return err
	}
	b := []byte(expand(payload))
	if h, ok := strings.CutPrefix(payload, "hex:"); ok {
		if b, err = hex.DecodeString(h); err != nil {
			return err
		}
	}
	return p.w.raw(rawFrame(byte(n), b))
}

func (p *player) collect() {
	synctest.Wait()
	p.got[p.w] = append(p.got[p.w], p.w.take()...)
}

func (p *player) peek() []string {
	p.collect()
	return lines(p.t, p.got[p.w])
}

// expect takes the next object, out of a frame with several if need be.
func (p *player) expect(want string) error {
	p.collect()
	frames := p.got[p.w]
	i := slices.IndexFunc(frames, func(f wireFrame) bool { return f.op == 1 })
	if i < 0 {
		return fmt.Errorf("nothing came")
	}
	first, rest, more := strings.Cut(string(frames[i].payload), "\n")
	if more {
		frames[i].payload = []byte(rest)
	} else {
		p.got[p.w] = slices.Delete(frames, i, i+1)
	}
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return fmt.Errorf("the scenario's line: %w", err)
	}
	if err := json.Unmarshal([]byte(first), &g); err != nil {
		return fmt.Errorf("have %q: %w", first, err)
	}
	if !matches(w, g) {
		return fmt.Errorf("have %s", first)
	}
	return nil
}

func matches(want, got any) bool {
	switch w := want.(type) {
	case string:
		if w == "*" {
			return true
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for k, v := range w {
			gv, ok := g[k]
			if !ok || !matches(v, gv) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}

func (p *player) control(word, want string) error {
	p.collect()
	op := byte(9)
	if word == "<pong" {
		op = 10
	}
	frames := p.got[p.w]
	i := slices.IndexFunc(frames, func(f wireFrame) bool { return f.op == op })
	if i < 0 || string(frames[i].payload) != want {
		return fmt.Errorf("have %q", frames)
	}
	p.got[p.w] = slices.Delete(frames, i, i+1)
	return nil
}

func (p *player) closed(rest string) error {
	p.collect()
	code := closeCode(p.got[p.w])
	if strconv.Itoa(code) != rest {
		return fmt.Errorf("have close code %d, and %q", code, p.got[p.w])
	}
	if code != 0 {
		_ = p.w.raw(rawFrame(0x88, []byte{byte(code >> 8), byte(code)})) // echo; the server may be gone already
	}
	time.Sleep(closeWait + time.Millisecond) // a pipe has no half-close that would tell us earlier
	synctest.Wait()
	if !p.w.ended() {
		return fmt.Errorf("the connection is still open")
	}
	return nil
}

func (p *player) event(want string) error {
	p.core.mu.Lock()
	defer p.core.mu.Unlock()
	for i, e := range p.core.events {
		if e == want {
			p.core.events = p.core.events[i+1:]
			return nil
		}
	}
	return fmt.Errorf("the core saw %q", p.core.events)
}

func (p *player) deliver(rest string) error {
	f := strings.Fields(rest)
	sub, _ := strconv.Atoi(f[0])
	seq, _ := strconv.ParseUint(f[1], 10, 64)
	m := testMessage(seq, message.Topic(f[2]), expand(f[3]), "application/json")
	attempt, expires, want := 1, time.Duration(0), true
	for _, opt := range f[4:] {
		k, v, _ := strings.Cut(opt, "=")
		switch k {
		case "ct":
			m.ContentType = v
		case "attempt":
			attempt, _ = strconv.Atoi(v)
		case "expires":
			expires, _ = time.ParseDuration(v)
		case "refused":
			want = false
		}
	}
	if got := p.core.deliver(sub, m, attempt, expires); got != want {
		return fmt.Errorf("Deliver returned %v", got)
	}
	return nil
}
