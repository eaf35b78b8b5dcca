package courier

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// KeptWill is what a client leaves for its own end (MQTT 5.0 §3.1.2.5), kept in the log so that the end of
// the appliance itself does not lose it.
type KeptWill struct {
	Principal string
	Client    string
	Token     string          // tells it from the client's other wills
	Body      json.RawMessage // the protocol's own
}

// willInfix stands between principal and client in the name of a kept will.
const willInfix = "/mqtt-will/"

func willName(principal, client string) string { return principal + willInfix + client }

// noteOver is the note that names a will that was published or taken back. It names the token, because a
// note that was on its way when the client came back must not end the client's next will.
const noteOver = 1

// spent reports whether the will was published or taken back.
func (s *subscription) spent() bool { return string(s.notes[noteOver]) == s.spec.Token }

// KeepWill makes the client's will durable, in the place of the one before it. A will is kept as a
// subscription that nobody links to and that owes nothing.
func (c *Courier) KeepWill(ctx context.Context, w KeptWill) error {
	spec := Spec{Name: willName(w.Principal, w.Client), Owner: w.Principal, Kind: Will, Token: w.Token, Meta: w.Body}
	defer c.lockName(spec.Name)()
	ch := &outbox.Change{Op: outbox.OpPut}
	if _, id, err := c.find(spec.Name); err == nil {
		ch.Sub = id
	}
	var err error
	if ch.Spec, err = json.Marshal(&spec); err != nil {
		return fmt.Errorf("encode will %s: %w", spec.Name, err)
	}
	if _, err := c.ob.Change(context.WithoutCancel(ctx), ch); err != nil {
		return err
	}
	return c.shardOf(spec.Owner).do(ctx, func() {})
}

// EndWill notes that the will is not to be published any more. done runs on the log's committer after the
// fsync and must not block.
func (c *Courier) EndWill(principal, client, token string, done func(error)) {
	c.Note(willName(principal, client), []Note{{Key: noteOver, Value: []byte(token)}}, done)
}

// PublishWill stores the message, and that the will is over, in one frame.
func (c *Courier) PublishWill(m *message.Message, principal, client, token string, done func(message.StoredAs, error)) {
	name := willName(principal, client)
	if _, _, err := c.find(name); err != nil {
		c.ob.Publish(m, done)
		return
	}
	c.PublishNoted(m, name, []Note{{Key: noteOver, Value: []byte(token)}}, done)
}

// Wills lists the kept wills that are neither published nor taken back: at the start, those of clients
// that were connected, or that were waited for, when the appliance ended without stopping.
func (c *Courier) Wills() (list []KeptWill, err error) {
	err = c.each(func(s *shard) {
		for _, sub := range s.subs {
			if sub.spec.Kind == Will && !sub.spent() {
				client := strings.TrimPrefix(sub.spec.Name, sub.spec.Owner+willInfix)
				list = append(list, KeptWill{Principal: sub.spec.Owner, Client: client, Token: sub.spec.Token, Body: sub.spec.Meta})
			}
		}
	})
	return list, err
}
