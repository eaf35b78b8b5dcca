package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// listDead is a page of dead letters.
func (a *api) listDead(c *call) error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	dead, err := a.core.DeadLetters(c.r.Context(), c.grant, after, limit)
	if err != nil {
		return err
	}
	var tail []byte
	if len(dead) == limit {
		tail = strconv.AppendUint([]byte(`,"next":`), dead[len(dead)-1].Entry, 10)
	}
	c.list("dead", len(dead), func(b []byte, i int) []byte { return appendDead(b, &dead[i]) }, tail)
	return nil
}

func appendDead(b []byte, d *message.DeadLetter) []byte {
	b = strconv.AppendUint(append(b, `{"entry":`...), d.Entry, 10)
	b = codec.AppendString(append(b, `,"subscription":`...), d.Subscription)
	b = codec.AppendString(append(b, `,"reason":`...), d.Reason)
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(d.Attempts), 10)
	if !d.At.IsZero() {
		b = append(d.At.UTC().AppendFormat(append(b, `,"at":"`...), timeLayout), '"')
	}
	if d.Message != nil {
		b = append(codec.AppendMessage(append(b, `,"message":{`...), d.Message), '}')
	}
	return append(b, '}')
}

func (a *api) showDead(c *call) error {
	entry, err := c.entry()
	if err != nil {
		return err
	}
	d, err := a.core.DeadLetter(c.r.Context(), c.grant, entry)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, append(appendDead(nil, &d), '\n'))
}

// editJSON is what changes when a dead letter is requeued.
type editJSON struct {
	Topic      *string         `json:"topic"`
	Data       json.RawMessage `json:"data"` // JSON, kept byte for byte
	Text       *string         `json:"text"`
	DataBase64 *[]byte         `json:"data_base64"`
	CT         *string         `json:"ct"`
	TTL        *span           `json:"ttl"`
	Priority   *uint8          `json:"priority"`
}

// jsonContent is the content type of data that is given as JSON without one.
const jsonContent = "application/json"

func (j *editJSON) edit() (e courier.Edit, err error) {
	forms := 0
	if j.Data != nil {
		forms++
		e.Payload = j.Data
		if j.CT == nil {
			ct := jsonContent
			j.CT = &ct
		}
	}
	if j.Text != nil {
		forms++
		e.Payload = append([]byte{}, *j.Text...)
	}
	if j.DataBase64 != nil {
		forms++
		e.Payload = append([]byte{}, *j.DataBase64...)
	}
	if forms > 1 {
		return e, message.Problemf(message.CodeBadRequest, "give one of data, text and data_base64")
	}
	if j.Topic != nil {
		topic, err := message.ParseTopic(*j.Topic)
		if err != nil {
			return e, err
		}
		e.Topic = &topic
	}
	if j.TTL != nil {
		ttl := time.Duration(*j.TTL)
		e.TTL = &ttl
	}
	e.ContentType, e.Priority = j.CT, j.Priority
	return e, nil
}

// requeue takes a dead letter back, as it was or, with a body, edited.
func (a *api) requeue(c *call) error {
	entry, err := c.entry()
	if err != nil {
		return err
	}
	var edit courier.Edit
	if c.r.ContentLength != 0 {
		body, err := c.bodyOf(a.MaxBatch + maxDocument)
		if err != nil {
			return err
		}
		if edit, err = body.edit(); err != nil {
			return err
		}
	}
	var as message.StoredAs
	if edit.Empty() {
		as, err = a.core.Requeue(c.r.Context(), c.grant, entry)
	} else {
		as, err = a.core.RequeueEdited(c.r.Context(), c.grant, entry, edit)
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/messages/"+as.ID.String())
	return c.answer(http.StatusCreated, append(appendStored(nil, &as), "}\n"...))
}

// bodyOf reads an edit, which holds a payload and may be larger than other documents. None at all changes nothing.
func (c *call) bodyOf(limit int64) (j editJSON, err error) {
	if err := jsonType(c.r.Header.Get("Content-Type")); err != nil {
		return j, err
	}
	b, err := c.body(limit)
	if err != nil || len(b) == 0 {
		return j, err
	}
	return j, unmarshalStrict(b, &j)
}

func (a *api) discard(c *call) error {
	entry, err := c.entry()
	if err != nil {
		return err
	}
	if err := a.core.Discard(c.r.Context(), c.grant, entry); err != nil {
		return err
	}
	return c.done()
}

// Bounds and default of the rate at which dead letters are requeued, per second.
const (
	minRate     = 0.1
	maxRate     = 1000
	defaultRate = 10
)

func (a *api) requeueAll(c *call) error {
	b := struct {
		Reason string  `json:"reason"`
		Rate   float64 `json:"rate"`
	}{Rate: defaultRate}
	if err := c.document(&b); err != nil {
		return err
	}
	if b.Rate < minRate || b.Rate > maxRate {
		return message.Problemf(message.CodeBadRequest, "rate %v is out of range %v to %d a second", b.Rate, minRate, maxRate)
	}
	j, err := a.core.RequeueAll(c.r.Context(), c.grant, b.Reason, b.Rate)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/jobs/"+j.ID)
	return c.json(http.StatusAccepted, map[string]string{"job": j.ID})
}

func (a *api) deadCauses(c *call) error {
	causes, err := a.core.Causes(c.grant)
	if err != nil {
		return err
	}
	type cause struct {
		Reason  string    `json:"reason"`
		Count   int64     `json:"count"`
		Oldest  time.Time `json:"oldest,omitzero"`
		Newest  time.Time `json:"newest,omitzero"`
		Example uint64    `json:"example"`
	}
	out := make([]cause, 0, len(causes))
	for _, k := range causes {
		out = append(out, cause{k.Reason, k.Count, second(k.Oldest), second(k.Newest), k.Example})
	}
	return c.json(http.StatusOK, map[string][]cause{"causes": out})
}

func (a *api) listJobs(c *call) error {
	jobs, err := a.core.Jobs(c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]any{"jobs": orEmpty(jobs)})
}

func (a *api) showJob(c *call) error {
	j, err := a.core.Job(c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &j)
}

func (a *api) stopJob(c *call) error {
	j, err := a.core.StopJob(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &j)
}
