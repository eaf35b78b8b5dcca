package mqtt

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/listener/quiet"
)

// samples are valid packets of a client, of every type.
func samples(tb testing.TB, v packet.Version) map[string][]byte {
	lines := []string{
		"connect id=x clean ka=30 user=u pass=p will.t=w will.p=bye will.q=1 will.retain",
		"publish t=a/b q=0 p=hello", "publish t=a/b q=1 id=7 p=hello retain", "publish t=a/b q=2 id=8 p=hello",
		"puback id=1", "pubrec id=1", "pubrel id=1", "pubcomp id=1",
		"subscribe id=2 f=a/b:1 f=c/#:2", "unsubscribe id=3 f=a/b f=c/#", "pingreq", "disconnect",
	}
	if v == packet.V5 {
		lines = append(lines, "publish t=a/b q=1 id=7 p={} mx=60 ct=application/json rt=r cd=1 u.k=v alias=1 pf=1",
			"subscribe id=2 sid=5 u.a=b f=a/b:1:nl:rap:rh2", "puback id=1 code=87 u.a=b", "disconnect code=04 sx=0", "auth code=18 am=x")
	}
	out := map[string][]byte{}
	for _, l := range lines {
		b, err := build(l, v)
		if err != nil {
			tb.Fatal(l, err)
		}
		out[l] = b
	}
	return out
}

// withLength replaces the remaining length of a packet by the length of its body.
func withLength(first byte, body []byte) []byte {
	return append(appendLength([]byte{first}, len(body)), body...)
}

// connected starts a server on a pipe and says CONNECT.
func connected(t *testing.T, ln *pipeListener, v packet.Version, words string) *wire {
	t.Helper()
	w := &wire{conn: ln.dial(), v: v}
	b, err := build("connect "+words, v)
	if err != nil {
		t.Fatal(err)
	}
	go w.listen()
	if err := w.raw(b); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if l := w.take(); len(l) != 1 || !strings.HasPrefix(l[0], "connack") || !strings.Contains(l[0], "code=00") {
		t.Fatalf("CONNACK: %q %v", l, w.ended())
	}
	return w
}

// pipeServer runs a server with the fake core on a pipe; finish ends it and checks that nothing is
// left.
func pipeServer(t *testing.T, o Options) (core *fakeCore, s *Server, ln *pipeListener, finish func()) {
	t.Helper()
	core = newFakeCore()
	o.Authenticator, o.Publisher, o.Sessions, o.Subscriber, o.Wills, o.Log = core, core, core, core, core, slog.New(slog.DiscardHandler)
	s, ln = New(o), newPipeListener()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	return core, s, ln, func() {
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		<-done
		if st := s.Stats(); st.Connections != 0 || st.Clients != 0 || st.Subscriptions != 0 {
			t.Errorf("after Close: %+v", st)
		}
		for name, a := range core.links {
			if !a.closed {
				t.Errorf("attachment %s was not given back", name)
			}
		}
	}
}

// verdict is what came of a connection: it goes on, or it ended with a reason code (5.0) or without a
// word.
func outcome(t *testing.T, w *wire) string {
	t.Helper()
	synctest.Wait()
	lines := w.take()
	for _, l := range lines {
		if code, ok := strings.CutPrefix(l, "disconnect code="); ok {
			return code[:2]
		}
	}
	if err := w.ended(); err != nil {
		if strings.HasPrefix(err.Error(), "server sent") {
			t.Error(err)
		}
		return "closed"
	}
	return "open"
}

// TestEveryByteMissing cuts every packet at every byte: as a connection that ends there, and as a
// packet whose length says that it ends there.
func TestEveryByteMissing(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for name, b := range samples(t, v) {
			synctest.Test(t, func(t *testing.T) {
				_, _, ln, finish := pipeServer(t, Options{})
				for n := range b {
					w := connected(t, ln, v, "id=a clean")
					if err := w.raw(b[:n]); err != nil {
						t.Fatalf("%s: %d bytes: %v", name, n, err)
					}
					if got := outcome(t, w); got != "open" {
						t.Errorf("%s %v: %d bytes of %d: %s", name, v, n, len(b), got)
					}
					_ = w.conn.Close()
				}
				synctest.Wait()
				finish()
			})
			synctest.Test(t, func(t *testing.T) { cutBodies(t, v, name, b) })
		}
	}
}

// cutBodies says of the first n bytes of the body that they are all of it.
func cutBodies(t *testing.T, v packet.Version, name string, b []byte) {
	_, _, head, _, err := packet.ReadHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	body := b[len(b)-head:]
	_, _, ln, finish := pipeServer(t, Options{})
	for n := range body {
		w := connected(t, ln, v, "id=a clean")
		if err := w.raw(withLength(b[0], body[:n])); err != nil {
			t.Fatalf("%s: %d bytes: %v", name, n, err)
		}
		got := outcome(t, w)
		p := packet.Packet{}
		valid := p.Decode(v, packet.Type(b[0]>>4), b[0]&15, body[:n]) == nil && p.FromClient(v) == nil
		switch {
		case valid: // a shorter payload, an ack without its optional parts
		case v == packet.V5 && !slices.Contains([]string{"81", "82", "8f", "90"}, got):
			t.Errorf("%s: body of %d bytes: %s", name, n, got)
		case v == packet.V311 && got != "closed":
			t.Errorf("%s: body of %d bytes: %s", name, n, got)
		}
		_ = w.conn.Close()
		synctest.Wait()
	}
	finish()
}

// TestEveryByteWrong changes every byte of every packet; whatever comes of it, the session and the
// server stay sound.
func TestEveryByteWrong(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for name, b := range samples(t, v) {
			synctest.Test(t, func(t *testing.T) {
				_, s, ln, finish := pipeServer(t, Options{})
				for i := range b {
					for _, x := range []byte{0x01, 0x80, 0xFF} {
						bad := slices.Clone(b)
						bad[i] ^= x
						w := connected(t, ln, v, "id=a clean")
						_ = w.raw(bad) // the server may have closed before the last byte
						got := outcome(t, w)
						if v == packet.V5 && got == "closed" && bad[0]>>4 != byte(packet.DISCONNECT) {
							t.Errorf("%s: byte %d ^ %02x: closed without a reason", name, i, x)
						}
						for _, c := range s.all() {
							checkSession(t, c)
						}
						_ = w.conn.Close()
						synctest.Wait()
					}
				}
				finish()
			})
		}
	}
}

// TestManySubscriptions asks for 10,000 filters in one packet and in many.
func TestManySubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, ln, finish := pipeServer(t, Options{})
		w := connected(t, ln, packet.V5, "id=a clean")
		p := packet.Packet{Type: packet.SUBSCRIBE, ID: 1}
		for i := range 10_000 {
			p.Filters = append(p.Filters, packet.Subscription{Filter: fmt.Appendf(nil, "f/%d", i), QoS: 1})
		}
		b, err := p.Append(nil, packet.V5)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.raw(b); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.take(); len(got) != 1 || got[0] != "suback id=1 codes=10000_codes" {
			t.Fatalf("SUBACK: %q", got)
		}
		if n := s.Stats().Subscriptions; n != 1000 {
			t.Errorf("%d subscriptions", n)
		}
		one, err := build("subscribe id=2 f=more:1", packet.V5)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.raw(one); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.take(); len(got) != 1 || got[0] != "suback id=2 codes=97" {
			t.Errorf("SUBACK: %q", got)
		}
		_ = w.conn.Close()
		synctest.Wait()
		finish()
	})
}

// TestDeepTopic uses topics and filters of 65,535 levels.
func TestDeepTopic(t *testing.T) {
	deep := strings.Repeat("/", 65_534)
	synctest.Test(t, func(t *testing.T) {
		core, _, ln, finish := pipeServer(t, Options{})
		w := connected(t, ln, packet.V5, "id=a clean")
		for _, step := range []struct{ send, want string }{
			{"subscribe id=1 f=" + deep + ":1", "suback id=1 codes=01"},
			{"subscribe id=2 f=" + strings.Repeat("+/", 32_000) + "#:1", "suback id=2 codes=01"},
			{"publish t=" + deep + " q=1 id=3 p=x", "puback id=3"},
			{"unsubscribe id=4 f=" + deep, "unsuback id=4 codes=00"},
		} {
			b, err := build(step.send, packet.V5)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.raw(b); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := w.take(); len(got) != 1 || got[0] != step.want {
				t.Errorf("have %.100q, want %s", got, step.want)
			}
		}
		if e := core.events[len(core.events)-1]; !strings.HasPrefix(e, "change a owed=[+/+/") {
			t.Errorf("the core saw %.100q last", e)
		}
		_ = w.conn.Close()
		synctest.Wait()
		finish()
	})
}

// FuzzSession feeds a session any bytes behind a CONNECT.
func FuzzSession(f *testing.F) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		var all []byte
		for _, b := range samples(f, v) {
			f.Add(byte(v), b)
			if t := packet.Type(b[0] >> 4); t != packet.CONNECT && t != packet.DISCONNECT && t != packet.AUTH {
				all = append(all, b...)
			}
		}
		f.Add(byte(v), all)
	}
	f.Fuzz(func(t *testing.T, v byte, data []byte) {
		ver := packet.V311 + packet.Version(v%2)
		core := newFakeCore()
		core.retained = nil
		s := New(Options{
			Authenticator: core, Publisher: core, Sessions: core, Subscriber: core, Wills: core, Log: slog.New(slog.DiscardHandler), MaxPacket: 1 << 16,
		})
		client, server := net.Pipe()
		s.accept(server, addrOf(nil), nil)
		hello, err := build("connect id=a clean", ver)
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, client)
		}()
		_ = client.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = client.Write(append(hello, data...)) // the server may close before the end
		for _, c := range s.all() {
			c.mu.Lock()
			inflight := c.inflight
			c.mu.Unlock()
			if inflight != 0 {
				t.Errorf("%d in flight, nothing was delivered", inflight)
			}
		}
		_ = client.Close()
		<-read
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, a := range core.links {
			if !a.closed {
				t.Errorf("attachment %s was not given back", name)
			}
		}
	})
}

// TestLengthIsNotBelieved announces a large packet and sends none of it: no memory is taken for it.
func TestLengthIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, ln, finish := pipeServer(t, Options{})
		w := connected(t, ln, packet.V5, "id=a clean")
		if err := w.raw(append(appendLength([]byte{0x30}, 1_900_000), make([]byte, 1000)...)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, c := range s.all() {
			if got := cap(c.in.Bytes()); got > 2*quiet.BlockBytes {
				t.Errorf("%d bytes for 1,000 bytes of input", got)
			}
		}
		rest := make([]byte, 1_899_000)
		binary.BigEndian.PutUint16(rest, 1)
		if err := w.raw(rest); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, c := range s.all() {
			if got := cap(c.in.Bytes()); got > quiet.KeepMax {
				t.Errorf("%d bytes are kept after a large packet", got)
			}
		}
		_ = w.conn.Close()
		synctest.Wait()
		finish()
	})
}
