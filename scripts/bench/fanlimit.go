package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// bareFan is a child: the limit of a fan-out. It writes blocks to all its connections in turn, reads what
// they send and does nothing else, until its standard input ends. Arguments: connections, bytes of a block.
func bareFan(args arguments) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	if err := answer(l.Addr().String()); err != nil {
		return err
	}
	conns := make([]net.Conn, args.number(0))
	for i := range conns {
		if conns[i], err = l.Accept(); err != nil {
			return err
		}
		defer conns[i].Close()
		go func() { // the process ends with it
			in := make([]byte, 512)
			for {
				if _, err := conns[i].Read(in); err != nil {
					return
				}
			}
		}()
	}
	ended := make(chan struct{})
	go func() { // the process ends with it
		defer close(ended)
		_, _ = bufio.NewReader(os.Stdin).WriteTo(io.Discard) // an error is an end, too
	}()
	block := make([]byte, args.number(1))
	for {
		for _, c := range conns {
			if _, err := c.Write(block); err != nil {
				return err
			}
		}
		select {
		case <-ended:
			return nil
		default:
		}
	}
}

// bareAck is about how many bytes an acknowledgment's frame has.
const bareAck = 40

// fanLimit measures it with frames like those that edgepost sent, and as many acknowledgments.
func (b *bench) fanLimit(ctx context.Context, like fanned) (m fanned, err error) {
	each := max(int(like.PerFrame+.5), 1)
	block := int(like.FrameBytes)
	var addr string
	t, err := b.talk(&addr, "bare-fanout", like.Subscribers, block)
	if err != nil {
		return m, err
	}
	defer t.end(syscall.SIGKILL)
	f := &fan{subscribers: int64(like.Subscribers), room: make(chan struct{}, 1)}
	var readers sync.WaitGroup
	conns := make([]net.Conn, like.Subscribers)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		readers.Wait()
	}()
	for i := range conns {
		if conns[i], err = net.Dial("tcp", addr); err != nil {
			return m, err
		}
		readers.Go(func() {
			in, ack, unacked := make([]byte, block), make([]byte, bareAck), 0
			for {
				if _, err := io.ReadFull(conns[i], in); err != nil {
					return // the end of the measurement
				}
				if unacked += each; unacked >= fanAckEach {
					if _, err := conns[i].Write(ack); err != nil {
						return
					}
					unacked = 0
				}
				f.got(each)
			}
		})
	}
	if err := pause(ctx, warmUp); err != nil {
		return m, err
	}
	before, cpu := f.received.Load(), t.cpu()
	if err := pause(ctx, b.span); err != nil {
		return m, err
	}
	got := f.received.Load() - before
	if got == 0 {
		return m, errors.New("the bare fan-out delivered nothing")
	}
	return fanned{
		Server: "bare writes", Subscribers: like.Subscribers, Deliveries: got, Rate: float64(got) / b.span.Seconds(),
		PerMillion: (t.cpu() - cpu) * 1e6 / float64(got), PerFrame: float64(each), FrameBytes: float64(block),
	}, nil
}
