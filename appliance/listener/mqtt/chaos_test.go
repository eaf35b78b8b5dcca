package mqtt_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/listener/mqtt/packet"
)

// TestChaos has clients that connect under few names, take each other over, subscribe, publish, acknowledge
// or not, and hang up at any moment. It looks for deadlocks, races and panics; afterwards a
// well-behaved client is served, and the appliance stops in time.
func TestChaos(t *testing.T) {
	s := &stage{t: t, data: t.TempDir(), peers: map[string]*client{}, words: strings.NewReplacer()}
	s.start()
	defer s.stop()
	length := 3 * time.Second
	if testing.Short() {
		length = time.Second
	}
	until := time.Now().Add(length)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for time.Now().Before(until) {
				chaos(s.app.MQTTAddr(), rnd)
			}
		})
	}
	wg.Wait()
	if err := s.dial("last 5"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{
		"> connect id=last clean", "< connack code=00 std", "> subscribe id=1 f=end:1", "< suback id=1 codes=01",
		"> publish t=end q=2 id=1 p=x", "<any pubrec id=1 | publish t=end q=1 id=1 p=x", "<any pubrec id=1 | publish t=end q=1 id=1 p=x",
	} {
		if err := s.step(step); err != nil {
			t.Fatal(step, err)
		}
	}
}

// chaos is one connection's life.
func chaos(addr string, rnd *rand.Rand) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	c := &client{conn, bufio.NewReader(conn), packet.V311 + packet.Version(rnd.IntN(2))}
	hello := fmt.Sprintf("connect id=c%d ka=%d", rnd.IntN(5), rnd.IntN(3))
	if rnd.IntN(3) == 0 {
		hello += " clean"
	}
	if rnd.IntN(2) == 0 {
		hello += fmt.Sprintf(" will.t=t/%d will.p=will will.q=%d", rnd.IntN(4), rnd.IntN(3))
	}
	if c.v == packet.V5 {
		hello += fmt.Sprintf(" sx=%d rm=%d tam=%d", rnd.IntN(3), 1+rnd.IntN(5), rnd.IntN(3))
	}
	if c.send(hello) != nil {
		return
	}
	for range rnd.IntN(60) {
		id, q := 1+rnd.IntN(8), rnd.IntN(3)
		var err error
		switch rnd.IntN(12) {
		case 0, 1:
			err = c.send(fmt.Sprintf("subscribe id=%d f=t/%d:%d f=#:%d", id, rnd.IntN(4), q, rnd.IntN(3)))
		case 2:
			err = c.send(fmt.Sprintf("subscribe id=%d f=$share/g%d/t/#:%d f=$SYS/#:0", id, rnd.IntN(2), q))
		case 3:
			err = c.send(fmt.Sprintf("unsubscribe id=%d f=t/%d f=# f=$share/g1/t/# f=$SYS/#", id, rnd.IntN(4)))
		case 4, 5, 6:
			words := fmt.Sprintf("publish t=t/%d q=%d p=REPEAT(x,%d)", rnd.IntN(4), q, rnd.IntN(3000))
			if q > 0 {
				words += fmt.Sprintf(" id=%d", id)
			}
			if rnd.IntN(5) == 0 {
				words += " retain"
			}
			err = c.send(words)
		case 7:
			err = c.send(fmt.Sprintf("pubrel id=%d", id))
		default:
			err = c.answer(rnd)
		}
		if err != nil {
			return
		}
	}
	if rnd.IntN(2) == 0 {
		_ = c.send("disconnect") // the server may have closed
	}
}

// answer reads what is there and acknowledges most of it.
func (c *client) answer(rnd *rand.Rand) error {
	for {
		got, err := c.next(5 * time.Millisecond)
		if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // comes from the connection itself
			return nil
		}
		if err != nil {
			return err
		}
		id := ""
		for w := range strings.FieldsSeq(got) {
			if n, ok := strings.CutPrefix(w, "id="); ok {
				id = n
			}
		}
		if rnd.IntN(8) == 0 {
			continue
		}
		switch {
		case strings.Contains(got, " q=1 "):
			err = c.send("puback id=" + id)
		case strings.Contains(got, " q=2 "):
			err = c.send("pubrec id=" + id)
		case strings.HasPrefix(got, "pubrel"):
			err = c.send("pubcomp id=" + id)
		case strings.HasPrefix(got, "pubrec"):
			err = c.send("pubrel id=" + id)
		}
		if err != nil {
			return err
		}
	}
}
