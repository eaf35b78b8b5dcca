package quiet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
)

// parts is a stream of parts: a byte of length divided by 100, and so many bytes. It returns how many bytes are
// complete and how many the next part will have, 0 when that is not known.
func parts(b []byte) (whole, need int) {
	for whole < len(b) {
		n := 1 + 100*int(b[whole])
		if len(b)-whole < n {
			return whole, n
		}
		whole += n
	}
	return whole, 0
}

// readAll takes complete parts until the end.
func readAll(t *testing.T, in *Input) []byte {
	t.Helper()
	var got []byte
	for {
		err := in.Fill()
		if b := in.Bytes(); len(b) > 0 {
			whole, need := parts(b)
			got = append(got, b[:whole]...)
			in.Took(whole, need)
		}
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func stream(r *rand.Rand, n int) []byte {
	var b []byte
	for range n {
		size := r.IntN(3)
		if r.IntN(10) == 0 {
			size = r.IntN(256)
		}
		b = append(b, byte(size))
		for range 100 * size {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b
}

// send writes it in pieces of every size.
func send(t *testing.T, c net.Conn, b []byte, r *rand.Rand) {
	for len(b) > 0 {
		n := min(1+r.IntN(1<<r.IntN(16)), len(b))
		if _, err := c.Write(b[:n]); err != nil {
			t.Error(err)
			return
		}
		b = b[n:]
	}
	_ = c.Close() // the other side reads the end
}

// pair returns both ends of a TCP connection.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// patient is a connection that can only be waited for, as one of TLS: here the wait holds back a byte.
type patient struct {
	net.Conn
	first []byte
	err   error
}

func (p *patient) Wait() error {
	if len(p.first) == 0 && p.err == nil {
		p.first = make([]byte, 1)
		var n int
		n, p.err = p.Conn.Read(p.first)
		p.first = p.first[:n]
	}
	return nil
}

func (p *patient) Read(b []byte) (int, error) {
	if len(p.first) == 0 && p.err == nil {
		return p.Conn.Read(b)
	}
	n := copy(b, p.first)
	p.first = p.first[n:]
	if n > 0 {
		return n, nil
	}
	return 0, p.err
}

// TestInput reads the same from a connection with a descriptor, one that can be waited for, and one that
// is blind.
func TestInput(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := stream(r, 100)
		run := func(name string, wrap func(net.Conn) net.Conn, blind bool) {
			client, server := pair(t)
			in := New(wrap(server), NewBuffers())
			if in.Blind() != blind {
				t.Errorf("%s: blind %v", name, in.Blind())
			}
			go send(t, client, want, rand.New(rand.NewPCG(seed, 2))) // ends with its last byte, or the test
			if got := readAll(t, &in); !bytes.Equal(got, want) {
				t.Fatalf("seed %d, %s: %d bytes differ from %d that were sent", seed, name, len(got), len(want))
			}
			if in.Held() && !blind {
				t.Errorf("%s: a buffer is held after everything", name)
			}
		}
		run("descriptor", func(c net.Conn) net.Conn { return c }, false)
		run("waiter", func(c net.Conn) net.Conn { return &patient{Conn: struct{ net.Conn }{c}} }, false)
		run("blind", func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }, true)
	}
}

// TestIdleHoldsNothing waits for input with nothing read, and with a part that is incomplete.
func TestIdleHoldsNothing(t *testing.T) {
	client, server := pair(t)
	buffers := NewBuffers()
	in := New(server, buffers)
	if _, err := client.Write([]byte{1, 'x'}); err != nil {
		t.Fatal(err)
	}
	for len(in.Bytes()) < 2 && len(in.rest) < 2 {
		if err := in.Fill(); err != nil {
			t.Fatal(err)
		}
		whole, need := parts(in.Bytes())
		in.Took(whole, need)
	}
	if in.Held() {
		t.Errorf("half a part holds a buffer of %d bytes", cap(in.Bytes()))
	}
	filled := make(chan error)
	go func() { filled <- in.Fill() }()
	if _, err := client.Write(bytes.Repeat([]byte{'x'}, 99)); err != nil {
		t.Fatal(err)
	}
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	if !in.Held() {
		t.Error("there is input and no buffer")
	}
}

// TestNeedIsNotBelieved announces much and sends little.
func TestNeedIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		in := New(server, NewBuffers())
		const large = 1 << 20
		got := make(chan int)
		go func() {
			defer close(got)
			for in.Fill() == nil {
				got <- cap(in.Bytes())
				if len(in.Bytes()) < large {
					in.Took(0, large)
				} else {
					in.Took(large, 0)
				}
			}
		}()
		sent := 0
		write := func(n int) (held int) {
			go func() { _, _ = client.Write(make([]byte, n)) }() // ends when it is read
			for sent += n; n > 0; {
				held = <-got
				synctest.Wait()
				n = max(n-held, 0)
				if held >= sent {
					return held
				}
			}
			return held
		}
		if held := write(100); held > 2*BlockBytes {
			t.Errorf("%d bytes are held for 100", held)
		}
		_ = client.Close()
		for range got {
		}
	})
}
