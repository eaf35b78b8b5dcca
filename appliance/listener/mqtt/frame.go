package mqtt

import (
	"sync"

	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/listener/quiet"
)

const (
	bufferKeepMax = 64 << 10 // a larger buffer is given to the garbage collector
	batchBytes    = 16 << 10 // written at once; a larger packet goes alone
	queueKeep     = 256      // entries of an emptied queue that is kept for another session
)

// pools hold what a session needs only while something happens on its connection.
type pools struct {
	input   *quiet.Buffers
	packets sync.Pool // *packet.Packet, while input is handled
	queues  sync.Pool // *queue, while messages wait to be written
	buffers sync.Pool // *[]byte, while a session writes
}

func (p *pools) init() {
	p.input = quiet.NewBuffers()
	p.packets.New = func() any { return new(packet.Packet) }
	p.queues.New = func() any { return new(queue) }
	p.buffers.New = func() any { b := make([]byte, 0, batchBytes); return &b }
}

func (p *pools) putPacket(k *packet.Packet) {
	k.Clear()
	p.packets.Put(k)
}

func (p *pools) putBuffer(b *[]byte) {
	if cap(*b) <= bufferKeepMax {
		*b = (*b)[:0]
		p.buffers.Put(b)
	}
}

func (p *pools) putQueue(q *queue) {
	if cap(q.entries) <= queueKeep {
		clear(q.entries)
		q.entries = q.entries[:0]
		p.queues.Put(q)
	}
}
