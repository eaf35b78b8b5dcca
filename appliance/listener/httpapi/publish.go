package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

const defaultDeliveryWait = 10 * time.Second

// Short reports whether the handler answers the request without waiting for anything but the disk: what
// package express may serve.
func Short(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.URL.EscapedPath(), "/v1/publish/") && r.URL.RawQuery == ""
}

// publishPath takes the topic from the path as it was sent.
func (a *api) publishPath(c *call) error { return a.publish(c, c.params[0]) }

func (a *api) publishQuery(c *call) error {
	if !c.query.Has("topic") {
		return message.Problemf(message.CodeBadTopic, "there is no topic; POST /v1/publish/TOPIC, or ?topic=TOPIC")
	}
	return a.publish(c, c.query.Get("topic"))
}

func (a *api) publish(c *call, topic string) error {
	t, err := message.ParseTopic(topic)
	if err != nil {
		return err
	}
	m := message.New(t, nil)
	m.ContentType = c.r.Header.Get("Content-Type")
	if err := a.describe(c.r.Header, m); err != nil {
		return err
	}
	wait, err := c.deliveryWait(m)
	if err != nil {
		return err
	}
	// Refused before the body is read: a device that may not publish here does not upload for nothing.
	if !c.grant.MayPublish(t) {
		return message.Problemf(message.CodeForbidden, "%s may not publish to %.200q", c.grant.Principal(), topic)
	}
	if m.Payload, err = c.body(a.MaxMessage); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return err
	}
	return a.store(c, m, wait)
}

// store publishes one message and answers.
func (a *api) store(c *call, m *message.Message, wait time.Duration) error {
	as, err := a.core.Publish(c.r.Context(), c.grant, m)
	if err != nil {
		return err
	}
	if as.Volatile {
		b := strconv.AppendInt([]byte(`{"volatile":true,"subscriptions":`), int64(as.Subscriptions), 10)
		return c.answer(http.StatusAccepted, append(b, "}\n"...))
	}
	b := appendStored(make([]byte, 0, 128), &as)
	if wait > 0 {
		b = a.appendStates(b, c, as.ID, wait)
	}
	h := c.w.Header()
	h.Set("Location", "/v1/messages/"+as.ID.String())
	if as.Replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	return c.answer(http.StatusCreated, append(b, "}\n"...))
}

// appendStored writes what a publisher is told, without the closing brace.
func appendStored(b []byte, as *message.StoredAs) []byte {
	b = codec.AppendString(append(b, `{"id":`...), as.ID.String())
	b = strconv.AppendUint(append(b, `,"seq":`...), as.Seq, 10)
	b = codec.AppendString(append(b, `,"epoch":`...), as.ID.Epoch)
	return strconv.AppendInt(append(b, `,"subscriptions":`...), int64(as.Subscriptions), 10)
}

// appendStates waits for the outcome. The message is stored already, so whatever goes wrong here
// only means that the states are missing from the 201.
func (a *api) appendStates(b []byte, c *call, id message.ID, wait time.Duration) []byte {
	ctx, cancel := context.WithTimeout(c.r.Context(), wait)
	defer cancel()
	receipts, err := a.core.Await(ctx, c.grant, id)
	if err != nil {
		a.Log.Warn("wait for delivery failed", "id", id.String(), "error", err)
		return b
	}
	return appendReceipts(append(b, `,"states":`...), receipts)
}

// deliveryWait reads ?wait=delivered&timeout=; 0: do not wait.
func (c *call) deliveryWait(m *message.Message) (time.Duration, error) {
	switch wait := c.query.Get("wait"); {
	case !c.query.Has("wait") && !c.query.Has("timeout"):
		return 0, nil
	case wait != "delivered":
		return 0, message.Problemf(message.CodeBadRequest, "query parameter wait is %.40q; here it can only be delivered, and timeout needs it", wait)
	case m.Volatile:
		return 0, message.Problemf(message.CodeBadRequest, "a volatile message is not stored, so there is nothing to wait for")
	}
	return c.duration("timeout", defaultDeliveryWait)
}

// appendReceipts writes states.
func appendReceipts(b []byte, receipts []message.Receipt) []byte {
	b = append(b, '[')
	for i := range receipts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendReceipt(b, &receipts[i])
	}
	return append(b, ']')
}

func appendReceipt(b []byte, r *message.Receipt) []byte {
	b = codec.AppendString(append(b, `{"subscription":`...), r.Subscription)
	b = codec.AppendString(append(b, `,"state":`...), r.State.String())
	if r.Reason != "" {
		b = codec.AppendString(append(b, `,"reason":`...), r.Reason)
	}
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(r.Attempt), 10)
	if !r.At.IsZero() {
		b = append(b, `,"at":"`...)
		b = append(r.At.UTC().AppendFormat(b, timeLayout), '"')
	}
	return append(b, '}')
}

// timeLayout is RFC 3339 with milliseconds, as everywhere in the appliance's JSON.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"
