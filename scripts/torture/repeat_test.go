package torture

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestAcksLostByKill has a device acknowledge a long backlog at once, and kills the process before
// the acks can be durable: what comes again must say so, however much it is.
func TestAcksLostByKill(t *testing.T) {
	_, rnd := plan(t, 1, 1)
	const backlog = 3000
	g := newGateway(t, t.TempDir(), "")
	g.start()
	w := newLoad(t, g)
	a := g.api(w.app)
	for i := range backlog / 100 {
		var names []string
		body := "["
		for j := range 100 {
			name := fmt.Sprintf("b%d.%d", i, j)
			names = append(names, name)
			body += fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/t","type":"t","subject":"device/d3/in/x","datacontenttype":"text/plain","data":%q},`,
				name, w.l.try(name, "device/d3/in/x", 10, ""))
		}
		if !w.batchOnce(a, "device/d3/in/x", []byte(body[:len(body)-1]+"]"), names) {
			t.Fatal("a batch was not taken")
		}
	}
	link, err := g.dial("d3", w.tokens["d3"])
	if err != nil {
		t.Fatal(err)
	}
	for range backlog - 10 {
		f, err := link.read(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		w.l.receive(0, "device/d3", *f.Msg)
		if err := w.settle(link, "device/d3", 0, []delivery{*f.Msg}, rnd); err != nil {
			t.Fatal(err)
		}
	}
	g.kill()
	link.close()
	g.start()
	w.receive("device/d3", "d3", habit{every: 1}, 1)
	w.conclude(rnd, backlog)
	if code, _, err := a.do(http.MethodGet, "/healthz", nil); err != nil || code != http.StatusOK {
		t.Errorf("healthz: %d, %v", code, err)
	}
}
