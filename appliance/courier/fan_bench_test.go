package courier

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// greedy is a link that takes everything and acknowledges 32 at a time, on the shard itself.
type greedy struct {
	Attachment
	got []uint64
}

func (l *greedy) Deliver(d Delivery) bool {
	l.got = append(l.got, d.Seq)
	return true
}

func (l *greedy) Flush()     {}
func (l *greedy) Lost(Cause) {}

// BenchmarkFanOut is what a delivery costs in the core: a message is owed to a thousand connected subscriptions,
// handed to their links, and acknowledged, 32 at a time. A turn of the subscriptions comes after so many messages.
func BenchmarkFanOut(b *testing.B) {
	const subscribers, batch = 1000, 32
	for _, kind := range []Kind{Live} {
		for _, each := range []int{1, 8, 16} {
			b.Run(fmt.Sprintf("%s/turn=%d", kind, each), func(b *testing.B) {
				o, co := backlogOptions()
				ob, err := outbox.Open(b.TempDir(), o)
				if err != nil {
					b.Fatal(err)
				}
				defer ob.Close()
				co.Shards = 1
				c := New(ob, co)
				if err := ob.Replay(c); err != nil {
					b.Fatal(err)
				}
				s := c.shards[0]
				links := make([]*greedy, subscribers)
				for i := range links {
					links[i] = attachGreedy(b, s, uint64(i+1), kind)
				}
				s.live = true
				seq := uint64(1000)
				b.ReportAllocs()
				b.ResetTimer()
				cpu := cpuTime()
				for n := 0; n < b.N; {
					for range each {
						seq++
						m := message.New("bench/fan", make([]byte, 128))
						m.ID = message.ID{Epoch: ob.Epoch(), Seq: seq}
						s.apply(&outbox.Entry{Seq: seq, Kind: outbox.KindMessage, Msg: m})
						n += subscribers
					}
					s.pump()
					for _, l := range links {
						if len(l.got) < batch {
							continue
						}
						for _, got := range l.got {
							s.over(l.Attachment.(*attachment).sub, got, message.Delivered)
						}
						l.got = l.got[:0]
					}
				}
				b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/delivery")
			})
		}
	}
}

// cpuTime is what the process has used: the wall clock tells more of the machine's other work.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func attachGreedy(b *testing.B, s *shard, id uint64, kind Kind) *greedy {
	b.Helper()
	if kind == Live {
		id |= liveID
	}
	l := &greedy{}
	spec := Spec{Name: fmt.Sprintf("s%04d", id&^liveID), Owner: fmt.Sprintf("device/d%04d", id&^liveID), Kind: kind, Filters: []message.Filter{"bench/fan"}}
	s.put(id, spec, &outbox.Change{}, 0)
	sub := s.subs[id]
	a := &attachment{s: s, sub: sub, link: l, o: AttachOptions{AckTimeout: 30 * time.Second}}
	l.Attachment = a
	s.attach(a)
	return l
}
