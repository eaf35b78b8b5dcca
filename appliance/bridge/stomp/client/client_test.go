package client

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeartBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &Conn{net: ours}
		s.r = bufio.NewReader(reader{s})
		s.agree(&Frame{headers: []header{{"heart-beat", "10000,4000"}}}, 8*time.Second)
		if s.silent != 21*time.Second || s.every != 8*time.Second {
			t.Fatal(s.silent, s.every)
		}
		go func() { _ = s.Beat(t.Context()) }()
		begin := time.Now()
		b := make([]byte, 1)
		for range 3 {
			if _, err := theirs.Read(b); err != nil || b[0] != '\n' {
				t.Fatal(b, err)
			}
		}
		if d := time.Since(begin); d > 3*s.every {
			t.Errorf("three beats in %v", d)
		}
		go func() { _, _ = theirs.Write([]byte("\n\n")) }()
		go func() { // the broker is there, and then says nothing
			for {
				if _, err := theirs.Read(b); err != nil {
					return
				}
			}
		}()
		begin = time.Now()
		if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), "not even a heart-beat") {
			t.Error(err)
		}
		if d := time.Since(begin); d != s.silent {
			t.Errorf("noticed after %v", d)
		}
		s.Close()
		theirs.Close()
	})
	s := &Conn{}
	s.agree(&Frame{}, time.Second)
	if s.silent != 0 || s.every != 0 {
		t.Error("heart-beats with a broker that has none")
	}
}
