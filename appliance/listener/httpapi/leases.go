package httpapi

import (
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

const (
	defaultLease = 64 // the default window of a subscription
	maxAcks      = 1000
	maxReason    = 256 // bytes of a nack's reason
)

func (a *api) fetchInbox(c *call) error { return a.fetch(c, inboxRef, "device id") }

func (a *api) fetchNamed(c *call) error { return a.fetch(c, namedRef, "subscription name") }

func (a *api) ackInbox(c *call) error { return a.ack(c, inboxRef, "device id") }

func (a *api) ackNamed(c *call) error { return a.ack(c, namedRef, "subscription name") }

func inboxRef(name string) courier.Ref { return courier.Ref{Device: name} }

func namedRef(name string) courier.Ref { return courier.Ref{Name: name} }

// fetch leases the next messages of an inbox or a named subscription.
func (a *api) fetch(c *call, ref func(string) courier.Ref, what string) error {
	if err := message.CheckName(what, c.params[0]); err != nil {
		return err
	}
	most, err := c.integer("max", defaultLease, 1, maxPage)
	if err != nil {
		return err
	}
	wait, err := c.duration("wait", 0)
	if err != nil {
		return err
	}
	ds, err := a.core.Fetch(c.r.Context(), c.grant, ref(c.params[0]), int(most), wait)
	if err != nil {
		return err
	}
	c.list("messages", len(ds), func(b []byte, i int) []byte { return appendDelivery(b, &ds[i]) }, nil)
	return nil
}

// appendDelivery writes a message object with what belongs to this transmission.
func appendDelivery(b []byte, d *courier.Delivery) []byte {
	b = codec.AppendMessage(append(b, '{'), d.Msg)
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(d.Attempt), 10)
	if d.ExpiresIn > 0 {
		b = strconv.AppendInt(append(b, `,"expires_in":`...), int64((d.ExpiresIn+time.Second-1)/time.Second), 10)
	}
	return append(b, '}')
}

// acksJSON is the body of a call to …/acks.
type acksJSON struct {
	UpTo string   `json:"upto"`
	IDs  []string `json:"ids"`
	Nack []struct {
		ID     string `json:"id"`
		Delay  int64  `json:"delay_ms"`
		Reason string `json:"reason"`
		Reject bool   `json:"reject"`
	} `json:"nack"`
}

// ack settles or gives back leased messages.
func (a *api) ack(c *call, ref func(string) courier.Ref, what string) error {
	if err := message.CheckName(what, c.params[0]); err != nil {
		return err
	}
	var body acksJSON
	if err := c.document(&body); err != nil {
		return err
	}
	acks, err := body.acks()
	if err != nil {
		return err
	}
	res, err := a.core.Acknowledge(c.r.Context(), c.grant, ref(c.params[0]), acks)
	if err != nil {
		return err
	}
	if res.Settled == 0 && len(acks.Nacks) == 0 && len(res.Unknown) > 0 {
		return message.Problemf(message.CodeNotDelivered, "%s and %d more are not on their way here: never sent, already settled, or back in the queue after their lease",
			res.Unknown[0], len(res.Unknown)-1)
	}
	answer := struct {
		Settled int      `json:"settled"`
		Unknown []string `json:"unknown,omitempty"`
	}{Settled: res.Settled}
	for _, id := range res.Unknown {
		answer.Unknown = append(answer.Unknown, id.String())
	}
	return c.json(http.StatusOK, &answer)
}

func (j *acksJSON) acks() (a courier.Acks, err error) {
	if j.UpTo == "" && len(j.IDs) == 0 && len(j.Nack) == 0 {
		return a, message.Problemf(message.CodeBadRequest, `nothing is acknowledged; send {"upto":ID}, {"ids":[ID,…]} or {"nack":[{"id":ID,"delay_ms":500}]}`)
	}
	if len(j.IDs) > maxAcks || len(j.Nack) > maxAcks {
		return a, message.Problemf(message.CodeTooLarge, "more than %d ids in one call", maxAcks)
	}
	if j.UpTo != "" {
		if a.UpTo, err = message.ParseID(j.UpTo); err != nil {
			return a, err
		}
	}
	for _, s := range j.IDs {
		id, err := message.ParseID(s)
		if err != nil {
			return a, err
		}
		a.IDs = append(a.IDs, id)
	}
	for i := range j.Nack {
		n := &j.Nack[i]
		id, err := message.ParseID(n.ID)
		if err != nil {
			return a, err
		}
		if n.Delay < 0 || n.Delay > message.MaxTTL.Milliseconds() {
			return a, message.Problemf(message.CodeBadRequest, "delay_ms %d of %s is out of range", n.Delay, id)
		}
		if len(n.Reason) > maxReason || !utf8.ValidString(n.Reason) {
			return a, message.Problemf(message.CodeBadRequest, "the reason for %s has more than %d bytes", id, maxReason)
		}
		a.Nacks = append(a.Nacks, courier.NackByID{ID: id, Delay: time.Duration(n.Delay) * time.Millisecond, Reason: n.Reason, Reject: n.Reject})
	}
	return a, nil
}
