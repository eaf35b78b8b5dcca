package httpapi

import (
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// reachListed is how many receivers are named; all are counted.
const reachListed = 100

// queuePage is how many messages of a queue are listed unless the query says otherwise.
const queuePage = 100

// previewBytes is how much of a payload a queue shows.
const previewBytes = 256

// deviceRow is a device in a list.
type deviceRow struct {
	registry.Device
	Online    bool      `json:"online"`
	Since     time.Time `json:"since,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	Owed      int64     `json:"owed"`
	OldestAge float64   `json:"oldest_age,omitempty"` // seconds
	Dropped   int64     `json:"dropped"`
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// listDevices lists all devices, or a page of those that the query selects.
func (a *api) listDevices(c *call) error {
	limit, err := c.integer("limit", 0, 1, maxPage)
	if err != nil {
		return err
	}
	state := c.query.Get("state")
	if state != "" && state != "online" && state != "offline" {
		return message.Problemf(message.CodeBadRequest, "query parameter state is %.40q; it must be online or offline", state)
	}
	q := registry.Query{Search: c.query.Get("search"), Group: c.query.Get("group"), After: c.query.Get("after"), Limit: int(limit)}
	page, inboxes, total, err := a.core.Find(c.r.Context(), c.grant, q, state)
	if err != nil {
		return err
	}
	rows := make([]deviceRow, len(page))
	for i := range page {
		s := &inboxes[i]
		rows[i] = deviceRow{
			Device: page[i], Online: s.Online, Since: second(s.Since), Reason: s.Why, LastSeen: second(s.Seen), Owed: s.Owed,
			OldestAge: s.OldestAge.Round(time.Millisecond).Seconds(), Dropped: s.Dropped,
		}
	}
	next := ""
	if n := len(page); limit > 0 && n == int(limit) {
		next = page[n-1].ID
	}
	return c.json(http.StatusOK, &struct {
		Devices []deviceRow `json:"devices"`
		Total   int         `json:"total"`
		Next    string      `json:"next,omitempty"`
	}{rows, total, next})
}

// owedJSON is one message of a queue.
type owedJSON struct {
	ID            string        `json:"id"`
	Seq           uint64        `json:"seq,omitempty"`
	Topic         message.Topic `json:"topic"`
	Priority      uint8         `json:"priority"`
	State         string        `json:"state"`
	Why           string        `json:"why"`
	Age           float64       `json:"age"`
	ExpiresIn     float64       `json:"expires_in,omitempty"`
	Attempt       int           `json:"attempt"`
	ContentType   string        `json:"ct,omitempty"`
	From          string        `json:"from,omitempty"`
	Size          int           `json:"size"`
	Preview       string        `json:"preview,omitempty"`
	PreviewBase64 []byte        `json:"preview_base64,omitempty"`
}

func showOwed(w *courier.Waiting) owedJSON {
	j := owedJSON{
		ID: w.Place.ID.String(), State: w.Place.State.String(), Why: w.Place.Reason, Attempt: w.Place.Attempt,
		Age: w.Age.Round(time.Millisecond).Seconds(), ExpiresIn: w.ExpiresIn.Round(time.Millisecond).Seconds(),
	}
	m := w.Msg
	if m == nil {
		j.Why = "its record cannot be read"
		return j
	}
	j.Seq, j.Topic, j.Priority, j.ContentType, j.From, j.Size = m.Seq, m.Topic, m.Priority, m.ContentType, m.From, len(m.Payload)
	j.Preview, j.PreviewBase64 = preview(m.Payload)
	return j
}

// preview is the beginning of a payload, as text if it is some.
func preview(payload []byte) (text string, binary []byte) {
	b := payload[:min(len(payload), previewBytes)]
	whole := b
	for cut := 0; cut < utf8.UTFMax && len(payload) > len(b) && len(whole) > 0 && !utf8.Valid(whole); cut++ { // between two signs
		whole = whole[:len(whole)-1]
	}
	if utf8.Valid(whole) && !strings.ContainsRune(string(whole), 0) {
		return string(whole), nil
	}
	return "", b
}

func (a *api) showQueue(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	limit, err := c.integer("limit", queuePage, 1, maxPage)
	if err != nil {
		return err
	}
	list, depth, err := a.core.Queue(c.r.Context(), c.grant, c.params[0], int(limit))
	if err != nil {
		return err
	}
	queue := make([]owedJSON, len(list))
	for i := range list {
		queue[i] = showOwed(&list[i])
	}
	return c.json(http.StatusOK, &struct {
		Depth int64      `json:"depth"`
		Queue []owedJSON `json:"queue"`
	}{depth, queue})
}

// eventJSON is one thing that happened to a device.
type eventJSON struct {
	At       time.Time     `json:"at,omitzero"`
	Kind     string        `json:"kind"`
	ID       string        `json:"id,omitempty"`
	Topic    message.Topic `json:"topic,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Attempts int           `json:"attempts,omitempty"`
	Took     float64       `json:"took,omitempty"` // seconds
	Size     int           `json:"size,omitempty"`
}

func (a *api) showTimeline(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	limit, err := c.integer("limit", queuePage, 1, maxPage)
	if err != nil {
		return err
	}
	list, before, err := a.core.Timeline(c.r.Context(), c.grant, c.params[0], int(limit))
	if err != nil {
		return err
	}
	events := make([]eventJSON, len(list))
	for i := range list {
		e := &list[i]
		events[i] = eventJSON{
			At: e.At.UTC().Truncate(time.Millisecond), Kind: e.Kind, Topic: e.Topic, Reason: e.Reason, Attempts: e.Attempts,
			Took: e.Took.Round(time.Millisecond).Seconds(), Size: e.Bytes,
		}
		if !e.ID.IsZero() {
			events[i].ID = e.ID.String()
		}
	}
	return c.json(http.StatusOK, &struct {
		Events []eventJSON `json:"events"`
		Before bool        `json:"before"`
	}{events, before})
}

// queued reads which message of which device's queue is meant.
func (c *call) queued() (device string, id message.ID, err error) {
	if err = message.CheckName("device id", c.params[0]); err == nil {
		id, err = message.ParseID(c.params[1])
	}
	return c.params[0], id, err
}

func (a *api) moveInQueue(c *call) error {
	device, id, err := c.queued()
	if err != nil {
		return err
	}
	var b struct {
		Priority *uint8 `json:"priority"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	if b.Priority == nil || *b.Priority > message.MaxPriority {
		return message.Problemf(message.CodeBadRequest, "\"priority\" must be a number from 0 to %d", message.MaxPriority)
	}
	if err := a.core.Move(c.r.Context(), c.grant, device, id, *b.Priority); err != nil {
		return err
	}
	return c.done()
}

func (a *api) withdraw(c *call) error {
	device, id, err := c.queued()
	if err != nil {
		return err
	}
	if err := a.core.Withdraw(c.r.Context(), c.grant, device, id); err != nil {
		return err
	}
	return c.done()
}

// reach says who would get a message.
func (a *api) reach(c *call) error {
	var b struct {
		Topic string `json:"topic"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	topic, err := message.ParseTopic(b.Topic)
	if err != nil {
		return err
	}
	list, err := a.core.Reach(c.r.Context(), c.grant, topic)
	if err != nil {
		return err
	}
	type device struct {
		ID     string `json:"id"`
		Online bool   `json:"online"`
	}
	out := struct {
		Subscriptions int      `json:"subscriptions"`
		Devices       []device `json:"devices"`
		Total         int      `json:"devices_total"`
		Online        int      `json:"online"`
		Offline       int      `json:"offline"`
		Others        []string `json:"others"`
	}{Subscriptions: len(list), Devices: []device{}, Others: []string{}}
	for _, r := range list {
		switch {
		case !r.Device:
			if len(out.Others) < reachListed {
				out.Others = append(out.Others, r.Name)
			}
			continue
		case r.Online:
			out.Online++
		default:
			out.Offline++
		}
		if out.Total++; len(out.Devices) < reachListed {
			out.Devices = append(out.Devices, device{strings.TrimPrefix(r.Name, "device/"), r.Online})
		}
	}
	return c.json(http.StatusOK, &out)
}
