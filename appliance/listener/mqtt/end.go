package mqtt

import (
	"fmt"

	"edgepost/appliance/courier"
	"edgepost/appliance/listener/mqtt/packet"
)

// bye ends the session: messages that wait are dropped (they are owed again), what was answered is
// written, and to a client of 5.0 a DISCONNECT with the code, unless there is no connection yet. It
// returns false, so that the reader can return it.
func (s *session) bye(code byte, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.why = reason; code == packet.KeepAliveTimeout {
		s.why = courier.Silent
	} else if reason == "" {
		s.why = fmt.Sprintf("ended with MQTT reason code 0x%02X", code)
	}
	if s.phase == open && s.v == packet.V5 {
		s.ctrl = s.appendDisconnect(s.ctrl, code, reason)
	}
	s.closeLocked()
	s.startLocked()
	return false
}

// closeLocked makes the session accept nothing more.
func (s *session) closeLocked() {
	defer s.wake.Broadcast()
	if s.closing {
		return
	}
	s.closing = true
	if s.out != nil {
		clear(s.out.entries)
		s.out.entries = s.out.entries[:0]
	}
}

// end gives everything back: first the client's session, for which the next connection may be
// waiting, last the connection, after the writer has said what was left to say.
func (s *session) end() {
	defer s.srv.release(s)
	s.in.Drop()
	s.mu.Lock()
	s.closeLocked()
	if s.why == "" {
		s.why = courier.Broken
	}
	for s.writing {
		s.wake.Wait()
	}
	linger := !s.gone && s.phase != leaving
	s.mu.Unlock()
	if s.grant != nil {
		s.leave()
	}
	s.mu.Lock()
	s.over, s.gone = true, true
	if s.ended != nil {
		close(s.ended)
	}
	s.mu.Unlock()
	if linger {
		s.linger()
	}
	_ = s.conn.Close()
}

// leave gives the client's session back to the appliance.
func (s *session) leave() {
	s.srv.count.subscriptions.Add(-int64(len(s.subs.list)))
	if s.phase != fresh {
		s.srv.count.connected.Add(-1)
	}
	s.srv.system.leave(s)
	s.settleAcks() // an ack may have come together with the end
	s.mu.Lock()
	links := s.links
	s.links = nil
	s.mu.Unlock()
	s.noteFlights()
	if s.shorter && s.expiry != 0 {
		s.keepShorter()
	}
	for _, l := range links {
		if !l.closed.Swap(true) {
			l.att.Close(s.why)
		}
	}
	s.srv.wills.left(s)
	if s.durable && s.expiry == 0 {
		ctx, cancel := s.srv.request()
		if err := s.srv.o.Sessions.EndSession(ctx, s.grant, s.client); err != nil {
			s.srv.o.Log.Error("ending an MQTT session failed; it ends by itself later", "client", s.client, "error", err)
		}
		cancel()
	}
	s.srv.disclaim(s.key, s)
}
