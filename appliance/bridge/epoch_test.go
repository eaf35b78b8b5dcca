package bridge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// dialerFunc is a dialer.
type dialerFunc func(ctx context.Context, e *Epoch) (Conn, error)

func (f dialerFunc) Dial(ctx context.Context, e *Epoch) (Conn, error) { return f(ctx, e) }

var errProtocol = errors.New("404 no queue")

func testEpoch(ctx context.Context) *Epoch {
	kind := &Kind{Schemes: []Scheme{{Name: "fake"}}, Explain: func(err error) error {
		if errors.Is(err, errProtocol) {
			return Errorf(Configuration, "%w; create it", err)
		}
		return err
	}}
	return NewEpoch(ctx, kind, &Config{}, &url.URL{Scheme: "fake", Host: "upstream.example"})
}

// The first reason stays, everything runs to its end, and closers come in the order of a stack.
func TestTheFirstReasonEndsAnEpoch(t *testing.T) {
	e := testEpoch(t.Context())
	var order []int
	for i := range 3 {
		e.OnEnd(func() { order = append(order, i) })
	}
	ended := 0
	e.Go(func(ctx context.Context) error { <-ctx.Done(); ended++; return errors.New("later") })
	e.Go(func(context.Context) error { return errProtocol })
	<-e.ctx.Done()
	e.Fail(errors.New("latest"))
	err := e.End()
	if !errors.Is(err, errProtocol) || Classify(err).Class != Configuration || ended != 1 || !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("%v, %d parts ended, closed %v", err, ended, order)
	}
	if err := e.End(); !errors.Is(err, errProtocol) || len(order) != 3 {
		t.Errorf("a second end: %v, %v", err, order)
	}
}

// What keeps a connection from being made is explained; a dialler that answers nothing is left after half a minute; and
// what ended the epoch while it dialled is the reason, not that it was ended.
func TestDialSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			dial dialerFunc
			text string
			wait time.Duration
		}{
			{func(context.Context, *Epoch) (Conn, error) { return nil, errProtocol }, "404 no queue; create it", 0},
			{func(ctx context.Context, _ *Epoch) (Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, "no answer from upstream.example within 30s: context deadline exceeded", dialTimeout},
			{func(ctx context.Context, e *Epoch) (Conn, error) {
				e.Fail(errors.New("it hung up"))
				<-ctx.Done()
				return nil, ctx.Err()
			}, "it hung up", 0},
		} {
			e, begin := testEpoch(t.Context()), time.Now()
			_, err := e.Dial(c.dial)
			if err == nil || err.Error() != c.text || time.Since(begin) != c.wait {
				t.Errorf("after %v: %v; want %s", time.Since(begin), err, c.text)
			}
			_ = e.End() // whatever it says
		}
	})
}

// A network connection outlives its dialling, and not its epoch.
func TestConnectionsEndWithTheirEpoch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := testEpoch(t.Context())
	e.URL.Host = l.Addr().String()
	var c net.Conn
	if _, err := e.Dial(dialerFunc(func(ctx context.Context, e *Epoch) (_ Conn, err error) {
		c, err = e.Connect(ctx)
		return nil, err
	})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("behind the dialling: %v", err)
	}
	_ = e.End() // nothing ended it before
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("behind the end: %v", err)
	}
}

func TestReceiptsComeInOrder(t *testing.T) {
	e := testEpoch(t.Context())
	r, got, done := NewReceipts(e), make([]int, 0, 3), make(chan struct{})
	gates := []chan error{make(chan error), make(chan error), make(chan error)}
	for i, gate := range gates {
		o := &Outgoing{Answered: func(_ *Outgoing, err error) {
			if got = append(got, i); (err != nil) != (i == 1) {
				t.Errorf("%d: %v", i, err)
			}
			if i == 2 {
				close(done)
			}
		}}
		if err := r.Add(t.Context(), o, func(context.Context) error { return <-gate }); err != nil {
			t.Fatal(err)
		}
	}
	close(gates[2])
	gates[0] <- nil
	gates[1] <- errProtocol
	<-done
	if !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("%v", got)
	}
	_ = e.End() // nothing ended it before
	full := make(Receipts)
	if err := full.Add(e.ctx, nil, nil); err == nil {
		t.Error("something is waited for behind the end")
	}
}

func TestTags(t *testing.T) {
	var tags Tags
	a, b, c := &Outgoing{}, &Outgoing{}, &Outgoing{}
	for i, o := range []*Outgoing{a, b, c} {
		if n := tags.Add(o); n != uint64(i+1) {
			t.Errorf("message %d is %d", i+1, n)
		}
	}
	if tags.Take(2) != b || tags.Take(2) != nil || tags.Take(9) != nil {
		t.Error("a number gives another message, or gives one twice")
	}
	if got := slices.Collect(tags.Waiting()); !slices.Equal(got, []*Outgoing{a, c}) {
		t.Errorf("%v", got)
	}
}

// stream is a connection on which given bytes come.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// FuzzFramed: what is passed on is what the heads say, however it is read.
func FuzzFramed(f *testing.F) {
	f.Add([]byte{0, 3, 'a', 'b', 'c', 1, 2, 'x', 'y', 0, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var want []byte
		for rest := in; len(rest) >= 2; {
			n := min(len(rest), 2+int(rest[1]))
			if rest[0]%2 == 0 {
				want = append(want, rest[:n]...)
			}
			rest = rest[n:]
		}
		framed := NewFramed(stream{Reader: bytes.NewReader(in)}, func(r *bufio.Reader) (Frame, error) {
			head := make([]byte, 2)
			_, err := io.ReadFull(r, head)
			return Frame{Head: head, Rest: uint64(head[1]), Drop: head[0]%2 == 1}, err
		})
		var got []byte
		for buf := make([]byte, int(step)+1); ; {
			n, err := framed.Read(buf)
			if got = append(got, buf[:n]...); err != nil {
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%x, want %x (of %x)", got, want, in)
		}
	})
}
