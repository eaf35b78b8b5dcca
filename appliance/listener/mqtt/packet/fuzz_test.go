package packet

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzDecode gives one packet to two decoders: one is new, one has just read something else. They agree,
// and what they read is written in a form that reads the same again.
func FuzzDecode(f *testing.F) {
	for _, c := range good() {
		wire := unhex(f, fixLength(f, c.wire))
		f.Add(byte(c.v), wire[0], wire[2:])
	}
	r := newRandom(1)
	for _, v := range []Version{V31, V311, V5} {
		for range 30 {
			p := r.packet(v)
			wire := mustAppend(f, &p, v)
			_, _, _, head, _ := ReadHeader(wire)
			f.Add(byte(v), wire[0], wire[head:])
		}
	}
	used := Packet{
		Type: CONNECT, Dup: true, Retain: true, QoS: 2, SessionPresent: true, Code: 1, ID: 1, Topic: b("t"), Payload: b("p"), Codes: b("c"),
		Filters: []Subscription{{Filter: b("f"), NoLocal: true}}, Props: newRandom(2).properties(CONNACK), Connect: Connect{Version: 5, ClientID: b("c"), Will: &Will{}},
	}
	f.Fuzz(func(t *testing.T, version, first byte, body []byte) {
		v, typ, flags := Version(3+version%3), Type(first>>4), first&15
		before := bytes.Clone(body)
		var p Packet
		dirty := used
		err := p.Decode(v, typ, flags, body)
		dirtyErr := dirty.Decode(v, typ, flags, body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if (err == nil) != (dirtyErr == nil) {
			t.Fatalf("new %v, used %v", err, dirtyErr)
		}
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Code < 0x80 || e.Detail == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if dump(&p) != dump(&dirty) {
			t.Fatalf("new  %s\nused %s", dump(&p), dump(&dirty))
		}
		wire, err := p.Append([]byte("x"), v)
		if err != nil {
			t.Fatalf("reads %s and does not write it: %v", dump(&p), err)
		}
		if typ == CONNECT {
			v = p.Version
		}
		_, _, n, head, err := ReadHeader(wire[1:])
		if err != nil || CheckLength(V5, n, head) != nil || 1+head+n != len(wire) {
			t.Fatalf("header of %x: %v", wire[1:], err)
		}
		var again Packet
		if err := decodeWire(&again, v, wire[1:]); err != nil {
			t.Fatalf("writes %x and does not read it: %v", wire[1:], err)
		}
		if dump(&again) != dump(&p) {
			t.Fatalf("first %s\nagain %s", dump(&p), dump(&again))
		}
		_ = p.FromClient(v)
		_ = p.FromServer(v)
	})
}

// FuzzHeader reads headers from any bytes, also one byte at a time.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "\x30", "\x30\x80", "\xff\xff\xff\xff\x7f", "\x30\xff\xff\xff\xff", "\x00\x00", "\xc0\x00rest"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, flags, n, head, err := ReadHeader(b)
		for cut := range b {
			_, _, _, h, err2 := ReadHeader(b[:cut])
			switch {
			case err2 == nil && (err != nil || h != head || cut < head):
				t.Fatalf("%x is whole at %d, later %v", b, cut, err)
			case err2 != nil && !errors.Is(err2, ErrShort) && (err == nil || errors.Is(err, ErrShort)):
				t.Fatalf("%x is wrong at %d and later not: %v", b, cut, err2)
			}
		}
		if err != nil {
			return
		}
		if n < 0 || n > MaxBody || head < 2 || head > 5 || typ == 0 || byte(typ)<<4|flags != b[0] {
			t.Fatalf("%x: %s %d %d %d", b, typ, flags, n, head)
		}
		if short := CheckLength(V5, n, head) == nil; short != bytes.Equal(appendVarint(b[:1:1], n), b[:head]) {
			t.Fatalf("%x: %d bytes are the shortest form: %v", b, head, short)
		}
	})
}

// FuzzName holds the checks of names and filters to plain statements of their rules.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a/b", "+", "#", "a/+/#", "a#", "$share/g/a", "$share/g", "\x00", "\xff", "", "a//", "+a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		text := validString(s)
		if got, want := checkName(s, "topic") == nil, text && len(s) > 0 && !bytes.ContainsAny(s, "+#"); got != want {
			t.Errorf("name %q: %v", s, got)
		}
		want := text && len(s) > 0
		levels := bytes.Split(s, []byte("/"))
		for i, l := range levels {
			if bytes.ContainsAny(l, "+#") && len(l) != 1 || string(l) == "#" && i != len(levels)-1 {
				want = false
			}
		}
		if got := checkFilter(V311, s) == nil; got != want {
			t.Errorf("filter %q in 3.1.1: %v", s, got)
		}
		if want && bytes.HasPrefix(s, []byte("$share/")) {
			want = len(levels) > 2 && len(levels[1]) > 0 && len(s) > len("$share/")+len(levels[1])+1 && !bytes.ContainsAny(levels[1], "+#")
		}
		if got := checkFilter(V5, s) == nil; got != want {
			t.Errorf("filter %q in 5.0: %v", s, got)
		}
	})
}
