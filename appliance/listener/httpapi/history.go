package httpapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

const defaultPage = 100

// history is a page of what is kept, and the long poll.
func (a *api) history(c *call) error {
	q, err := readHistory(c)
	if err != nil {
		return err
	}
	events, err := wantsEvents(c.r.Header.Values("Accept"))
	if err != nil {
		return err
	}
	page, err := a.core.History(c.r.Context(), c.grant, q)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Add("Vary", "Accept")
	if !page.Next.IsZero() {
		next := url.Values{"topic": {string(q.Filter)}, "after": {page.Next.String()}, "limit": {strconv.Itoa(q.Limit)}}
		if q.Wait > 0 {
			next.Set("wait", c.query.Get("wait"))
		}
		h.Set("Link", `</v1/messages?`+next.Encode()+`>; rel="next"`) // RFC 8288
	}
	if page.Gap {
		h.Set("Message-Gap", "true")
	}
	if events {
		b, err := codec.EncodeBatch(codec.BatchJSON, page.Messages, a.Gateway())
		if err != nil {
			return err
		}
		h.Set("Content-Type", codec.BatchJSON)
		return c.answer(http.StatusOK, b)
	}
	var tail []byte
	if !page.Next.IsZero() {
		tail = codec.AppendString(append(tail, `,"next":`...), page.Next.String())
	}
	tail = strconv.AppendBool(append(tail, `,"gap":`...), page.Gap)
	c.list("messages", len(page.Messages), func(b []byte, i int) []byte {
		return append(codec.AppendMessage(append(b, '{'), page.Messages[i]), '}')
	}, tail)
	return nil
}

func readHistory(c *call) (q courier.Query, err error) {
	if !c.query.Has("topic") {
		return q, message.Problemf(message.CodeBadFilter, "there is no filter; GET /v1/messages?topic=FILTER (%%23 is the wildcard #)")
	}
	if q.Filter, err = message.ParseFilter(c.query.Get("topic")); err != nil {
		return q, err
	}
	if q.After, err = c.id("after"); err != nil {
		return q, err
	}
	limit, err := c.integer("limit", defaultPage, 1, maxPage)
	if err != nil {
		return q, err
	}
	q.Limit = int(limit)
	q.Wait, err = c.duration("wait", 0)
	return q, err
}

// wantsEvents reads Accept: ours by default, CloudEvents when they are named; where both are, the
// first one. The q values of RFC 9110 §12.5.1 are not weighed beyond q=0.
func wantsEvents(accept []string) (bool, error) {
	list := strings.Join(accept, ",")
	if strings.TrimSpace(list) == "" {
		return false, nil
	}
	for one := range strings.SplitSeq(list, ",") {
		t, params, _ := strings.Cut(one, ";")
		if strings.ReplaceAll(params, " ", "") == "q=0" {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(t)) {
		case codec.BatchJSON:
			return true, nil
		case "application/json", "application/*", "*/*":
			return false, nil
		}
	}
	return false, message.Problemf(message.CodeBadMediaType, "Accept %.80q is not offered here; ask for application/json or %s", list, codec.BatchJSON)
}

// trace says where a message is.
func (a *api) trace(c *call) error {
	id, err := message.ParseID(c.params[0])
	if err != nil {
		return err
	}
	t, err := a.core.Trace(c.r.Context(), c.grant, id)
	if err != nil {
		return err
	}
	b := []byte{'{'}
	if t.Message != nil {
		b = append(codec.AppendMessage(append(b, `"message":{`...), t.Message), "},"...)
	}
	b = appendReceipts(append(b, `"states":`...), t.Places)
	b = strconv.AppendBool(append(b, `,"partial":`...), t.Partial)
	return c.answer(http.StatusOK, append(b, "}\n"...))
}

// cancel withdraws what is not yet delivered.
func (a *api) cancel(c *call) error {
	id, err := message.ParseID(c.params[0])
	if err != nil {
		return err
	}
	n, err := a.core.Cancel(c.r.Context(), c.grant, id)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]int{"cancelled": n})
}
