package packet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// oracle is another implementation, used by these tests only. read takes a whole packet apart, write puts one
// together; both speak our Packet.
type oracle struct {
	name  string
	v     Version
	read  func(v Version, wire []byte) (Packet, error)
	write func(v Version, p *Packet) ([]byte, error)

	// The flaws of the oracle, found by these tests: cannotRead and cannotWrite say why a good packet
	// is not put to it, or "".
	cannotRead  func(p *Packet) string
	cannotWrite func(p *Packet) string
}

// errFlaw is what an oracle's read returns where the oracle is wrong about changed bytes.
var errFlaw = errors.New("a flaw of the oracle")

func oracles() []oracle {
	return []oracle{
		mochiOracle(V31), mochiOracle(V311), mochiOracle(V5),
		paho3Oracle(V31), paho3Oracle(V311),
		paho5Oracle(),
	}
}

// TestOracles: what we write they read, what they write we read, and all mean the same.
func TestOracles(t *testing.T) {
	for _, o := range oracles() {
		t.Run(fmt.Sprintf("%s in %s", o.name, o.v), func(t *testing.T) {
			r := newRandom(uint64(o.v))
			var got Packet
			read, written := 0, 0
			for i := range seeds(5_000) {
				p := r.packet(o.v)
				want := dump(&p)
				wire := mustAppend(t, &p, o.v)
				if o.cannotRead(&p) == "" {
					theirs, err := o.read(o.v, wire)
					if err != nil {
						t.Fatalf("%d: it does not read %x: %v\n%s", i, wire, err, want)
					}
					if dump(&theirs) != want {
						t.Fatalf("%d: it reads %x as\n     %s\nnot  %s", i, wire, dump(&theirs), want)
					}
					read++
				}
				if o.cannotWrite(&p) == "" {
					theirs, err := o.write(o.v, &p)
					if err != nil {
						t.Fatalf("%d: it does not write %s: %v", i, want, err)
					}
					if err := decodeWire(&got, o.v, theirs); err != nil {
						t.Fatalf("%d: we do not read its %x: %v\n%s", i, theirs, err, want)
					}
					if dump(&got) != want {
						t.Fatalf("%d: we read its %x as\n     %s\nnot  %s", i, theirs, dump(&got), want)
					}
					written++
				}
			}
			if n := seeds(5_000); read < n*8/10 || written < n*8/10 {
				t.Errorf("only %d were read and %d written", read, written)
			}
		})
	}
}

// TestOraclesOnNoise changes single bytes of good packets: what we still accept the oracle accepts too, and reads the
// same. What it accepts and we do not says nothing: none of the three checks much.
func TestOraclesOnNoise(t *testing.T) {
	for _, o := range oracles() {
		t.Run(fmt.Sprintf("%s in %s", o.name, o.v), func(t *testing.T) {
			r := newRandom(uint64(o.v) + 300)
			var ours Packet
			accepted := 0
			for i := range seeds(20_000) {
				p := r.packet(o.v)
				wire := r.noise(mustAppend(t, &p, o.v))
				if err := decodeWire(&ours, o.v, wire); err != nil || o.cannotRead(&ours) != "" {
					continue
				}
				if ours.Type == CONNECT && ours.Version != o.v {
					continue
				}
				accepted++
				theirs, err := o.read(o.v, wire)
				if errors.Is(err, errFlaw) {
					continue
				}
				if err != nil {
					t.Fatalf("%d: we read %x and it does not: %v\n%s", i, wire, err, dump(&ours))
				}
				lossy(&ours)
				lossy(&theirs)
				if dump(&ours) != dump(&theirs) {
					t.Fatalf("%d: %x\nwe  %s\nit  %s", i, wire, dump(&ours), dump(&theirs))
				}
			}
			if accepted < seeds(20_000)/10 {
				t.Errorf("only %d were accepted", accepted)
			}
		})
	}
}

// noise changes, adds or takes away one byte of the body, and sets the length.
func (r random) noise(wire []byte) []byte {
	_, _, n, head, err := ReadHeader(wire)
	if err != nil {
		panic(err)
	}
	body := bytes.Clone(wire[head:])
	at := r.IntN(n + 1)
	switch op := r.IntN(4); {
	case op == 0 || n == 0:
		body = append(body[:at:at], append([]byte{byte(r.IntN(256))}, body[at:]...)...)
	case op == 1 && at < n:
		body = append(body[:at:at], body[at+1:]...)
	case at < n:
		body[at] ^= byte(1 << r.IntN(8))
	}
	return append(appendVarint([]byte{wire[0]}, len(body)), body...)
}

// lossy removes what an oracle cannot tell from an absent field: properties that are empty, zero or false.
func lossy(p *Packet) {
	lossyProperties(&p.Props)
	if p.Will != nil {
		lossyProperties(&p.Will.Props)
	}
}

func lossyProperties(p *Properties) {
	for id := PropertyID(1); id <= PropSharedAvailable; id++ {
		zero := false
		if f := p.stringField(id); f != nil {
			zero = len(*f) == 0
		} else if f := p.binaryField(id); f != nil {
			zero = len(*f) == 0
		} else if f := p.uint32Field(id); f != nil {
			zero = *f == 0
		} else if f := p.uint16Field(id); f != nil {
			zero = *f == 0
		} else if f := p.byteField(id); f != nil {
			zero = *f == 0
		} else if f := p.boolField(id); f != nil {
			zero = !*f
		}
		if zero {
			p.Unmark(id)
		}
	}
}
