package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const natsVersion = server.VERSION

// The peer's two ways to store: one fsync a message before its acknowledgment, or its default, an
// acknowledgment from memory and an fsync every two minutes.
const (
	syncAlways = "always"
	syncLazy   = "lazy"
)

const stream = "bench"

func natsStart(o server.Options, sync string) (*server.Server, error) {
	o.NoLog, o.NoSigs, o.SyncAlways = true, true, sync == syncAlways
	o.JetStreamMaxMemory, o.JetStreamMaxStore = 1<<30, logBudget
	s, err := server.NewServer(&o)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return nil, errors.New("the NATS server is not ready within a minute")
	}
	return s, nil
}

// natsStream makes a stream of one replica on files, or finds it.
func natsStream(ctx context.Context, nc *nats.Conn) (jetstream.JetStream, jetstream.Stream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	st, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{"bench.>"}, Storage: jetstream.FileStorage, Replicas: 1,
	})
	return js, st, err
}

// natsPublish is a child: durable publishes to JetStream with the in-process client. Arguments:
// directory, publishers, payload bytes, span, loop device, sync, publishes in flight of each.
func natsPublish(args arguments) error {
	data, n, payload, span, loop := args.text(0), args.number(1), args.number(2), args.span(3), args.text(4)
	s, err := natsStart(server.Options{DontListen: true, JetStream: true, StoreDir: data}, args.text(5))
	if err != nil {
		return err
	}
	defer s.Shutdown()
	ctx, cancel := context.WithTimeout(context.Background(), warmUp+span+3*grace) // the client's own limit is 5 s a call
	defer cancel()
	// Eight connections, because one is the bottleneck at 256 publishers and 256 cost more than they give.
	streams := make([]jetstream.JetStream, min(n, 8))
	for i := range streams {
		nc, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			return err
		}
		defer nc.Close()
		if streams[i], _, err = natsStream(ctx, nc); err != nil {
			return err
		}
	}
	body := make([]byte, payload)
	m, err := onDevice(loop, filepath.Dir(data), int64(payload), func() (measured, error) {
		return drive(ctx, n, span, ownCPU, func(i int) (worker, error) {
			js := streams[i%len(streams)]
			if flight := args.number(6); flight > 1 {
				return natsPipeline(js, body, flight), nil
			}
			return one(func() error {
				_, err := js.Publish(ctx, "bench.x", body)
				return err
			}), nil
		})
	})
	if err != nil {
		return err
	}
	return answer(m)
}

// natsPipeline keeps publishes in flight, as pipeline does for edgepost.
func natsPipeline(js jetstream.JetStream, body []byte, flight int) worker {
	type sent struct {
		began time.Time
		ack   jetstream.PubAckFuture
	}
	return func(_ context.Context, r *recorder) error {
		waiting := make(chan sent, flight-1) // one more is with the taker
		var failed error
		var taker sync.WaitGroup
		taker.Go(func() {
			for s := range waiting {
				select {
				case <-s.ack.Ok():
					r.done(s.began)
				case err := <-s.ack.Err():
					failed = errors.Join(failed, err)
				}
			}
		})
		var err error
		for err == nil && !r.over() {
			s := sent{began: time.Now()}
			if s.ack, err = js.PublishAsync("bench.x", body); err == nil {
				waiting <- s
			}
		}
		close(waiting)
		taker.Wait()
		return errors.Join(err, failed)
	}
}

// peerAddresses is where a NATS server process listens.
type peerAddresses struct {
	Client    string `json:"client"`
	WebSocket string `json:"websocket"`
	MQTT      string `json:"mqtt"`
}

// natsServe is a child: a NATS server. Arguments: directory, sync. It serves until its standard input
// ends.
func natsServe(args arguments) error {
	o := server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: args.text(0), MaxConn: 12_000,
		Websocket: server.WebsocketOpts{Host: "127.0.0.1", NoTLS: true}, ServerName: stream, MQTT: server.MQTTOpts{Host: "127.0.0.1", JSAPITimeout: time.Minute},
	}
	for _, port := range []*int{&o.Websocket.Port, &o.MQTT.Port} { // RANDOM_PORT is for the client's port only
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		*port = int(netip.MustParseAddrPort(addr).Port())
	}
	s, err := natsStart(o, args.text(1))
	if err != nil {
		return err
	}
	defer s.Shutdown()
	if err := answer(peerAddresses{s.ClientURL(), s.WebsocketURL(), fmt.Sprintf("127.0.0.1:%d", o.MQTT.Port)}); err != nil {
		return err
	}
	return obey()
}

// peer is a NATS server process.
type peer struct {
	*talker
	peerAddresses
	dir string
}

func (b *bench) natsServer(dir, sync string) (*peer, error) {
	p := &peer{dir: dir}
	var err error
	p.talker, err = b.talk(&p.peerAddresses, "nats-server", dir, sync)
	return p, err
}

func (p *peer) remove() error {
	p.end(syscall.SIGKILL)
	return os.RemoveAll(p.dir)
}

// natsConnect opens a client; none reconnects, since a lost connection is a failed measurement.
func natsConnect(url string) (*nats.Conn, error) {
	nc, err := nats.Connect(url, nats.NoReconnect(), nats.Timeout(20*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", url, err)
	}
	return nc, nil
}
