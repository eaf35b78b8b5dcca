package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

// sending is what the flags of send say.
type sending struct {
	ttl, delay time.Duration
	priority   int
	key        string
	kind       string
	file       string
	wait       time.Duration
	sealFile   string
	sealForm   string
}

func sendCommand() *command {
	var s sending
	c := &command{name: "send", args: "TOPIC [DATA|-]", short: "publish a message and print its id", flags: newFlags()}
	c.long = `
The id is printed after the message is on stable storage. DATA is the payload, - reads it from standard input, and
without either it is empty. Without -type the payload is application/json when it is a JSON object or array,
text/plain when it is text, else application/octet-stream.

-wait[=TIMEOUT] then waits until every subscription is done with the message and prints a line for each with its state:
exit 0 when all took it, 1 when one gave it up or nobody waits for it, 5 when it takes longer (it stays
stored and is delivered later; see edgepost trace).

-seal seals the payload for TOPIC before it leaves, with a key as seal key and device seal print it: only who has
the key can read it. Sealed twice is never the same twice, so that -key refuses a repetition.`
	c.flags.Var(span{&s.ttl}, "ttl", "expire undelivered after `DURATION`, such as 90, 10m or 7d")
	c.flags.IntVar(&s.priority, "priority", message.DefaultPriority, "`0-9`; from 7 on it goes ahead of what waits")
	c.flags.Var(span{&s.delay}, "delay", "deliver after `DURATION`")
	c.flags.StringVar(&s.key, "key", "", "idempotency `KEY`: the same key again stores nothing and prints the same id")
	c.flags.StringVar(&s.kind, "type", "", "content `TYPE`, such as application/json")
	c.flags.StringVar(&s.file, "file", "", "read the payload from `PATH`")
	c.flags.Var(wait{&s.wait}, "wait", "wait until it is delivered; `=TIMEOUT` is 10s unless given, at most 1m")
	c.flags.StringVar(&s.sealFile, "seal", "", "seal the payload with the key in `FILE`")
	c.flags.StringVar(&s.sealForm, "form", "jwe", "with -seal: `jwe or a256gcm`, which is shorter and does not carry the content type")
	c.run = func(ctx context.Context, call *call) error { return s.run(ctx, call) }
	return c
}

func (s *sending) run(ctx context.Context, c *call) error {
	if s.priority < 0 || s.priority > message.MaxPriority {
		return usage("send", "send: flag -priority: %d is out of range; 0 to 9", s.priority)
	}
	payload, err := s.payload(c)
	if err == nil && s.sealFile != "" {
		payload, err = s.seal(c.args[0], payload)
	}
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	r := request{
		method: http.MethodPost, path: "/v1/publish", query: url.Values{"topic": {c.args[0]}},
		header: s.header(payload), body: bytes.NewReader(payload), wait: s.wait,
	}
	if s.wait > 0 {
		r.query.Set("wait", "delivered")
		r.query.Set("timeout", s.wait.String())
	}
	begin := time.Now()
	body, err := cl.do(ctx, r)
	if err != nil {
		return err
	}
	var stored publishedJSON
	if err := cl.decode(body, &stored); err != nil {
		return err
	}
	if c.json {
		err = c.printJSON(body)
	} else {
		err = c.print(stored.ID + "\n" + stored.lines())
	}
	if err != nil || s.wait == 0 {
		return err
	}
	return stored.outcome(s.wait, time.Since(begin) >= s.wait)
}

// payload reads what is to be sent, from one of its three places.
func (s *sending) payload(c *call) ([]byte, error) {
	var from io.Reader
	switch {
	case s.file != "" && len(c.args) > 1:
		return nil, usage("send", "send: give the payload once, as %q or as -file %s", clip(c.args[1]), clip(s.file))
	case s.file != "" && s.file != "-":
		f, err := os.Open(s.file)
		if err != nil {
			return nil, fmt.Errorf("read payload: %w", err)
		}
		defer f.Close()
		from = f
	case s.file == "-" || len(c.args) > 1 && c.args[1] == "-":
		from = c.Stdin
	case len(c.args) > 1:
		from = bytes.NewReader([]byte(c.args[1]))
	default:
		return nil, nil
	}
	payload, err := io.ReadAll(io.LimitReader(from, message.MaxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	if len(payload) > message.MaxPayload {
		return nil, &failure{exitRefused, "the payload is larger than " + appliance.FormatSize(message.MaxPayload) + ", the most one message can have (" + message.CodeTooLarge + ")", ""}
	}
	return payload, nil
}

// seal seals the payload for the topic; from then on it is of the form's type.
func (s *sending) seal(topic string, payload []byte) ([]byte, error) {
	form, err := seal.ParseForm(s.sealForm)
	if err == nil && form == seal.None {
		err = errors.New("off seals nothing; leave -seal away")
	}
	if err != nil {
		return nil, usage("send", "send: flag -form: %v", err)
	}
	k, err := readSealKey(s.sealFile)
	if err != nil {
		return nil, err
	}
	kind := s.kind
	if kind == "" && len(payload) > 0 {
		kind = guessType(payload)
	}
	s.kind = form.ContentType()
	return seal.NewBox(k).Seal(form, topic, seal.Content{Payload: payload, Type: kind}), nil
}

func (s *sending) header(payload []byte) http.Header {
	h := http.Header{}
	kind := s.kind
	if kind == "" && len(payload) > 0 {
		kind = guessType(payload)
	}
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	if s.ttl > 0 {
		h.Set("Message-TTL", s.ttl.String())
	}
	if s.delay > 0 {
		h.Set("Message-Delay", s.delay.String())
	}
	if s.priority != message.DefaultPriority {
		h.Set("Message-Priority", strconv.Itoa(s.priority))
	}
	if s.key != "" {
		h.Set("Idempotency-Key", s.key)
	}
	return h
}

// guessType names the content type of a payload that came without one. A bare word or number is
// text, though it may also be JSON: what was typed is what arrives.
func guessType(payload []byte) string {
	start := bytes.TrimLeft(payload, " \t\r\n")
	switch {
	case len(start) > 0 && (start[0] == '{' || start[0] == '[') && json.Valid(payload) && utf8.Valid(payload):
		return "application/json"
	case utf8.Valid(payload) && bytes.IndexByte(payload, 0) < 0:
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// publishedJSON is the answer to a publish.
type publishedJSON struct {
	ID            string      `json:"id"`
	Subscriptions int         `json:"subscriptions"`
	States        []stateJSON `json:"states"`
}

// stateJSON is where a message stands for one subscription.
type stateJSON struct {
	Subscription string    `json:"subscription"`
	State        string    `json:"state"`
	Reason       string    `json:"reason"`
	Attempt      int       `json:"attempt"`
	At           time.Time `json:"at"`
}

func (p *publishedJSON) lines() string {
	var b strings.Builder
	for _, s := range p.States {
		b.WriteString(s.line())
	}
	return b.String()
}

// line shows one state: "delivered  device/lamp1  attempt 2  2026-11-23T06:00:00Z  (reason)".
func (s *stateJSON) line() string {
	out := fmt.Sprintf("%-9s  %s", s.State, printable(s.Subscription))
	if s.Attempt > 1 {
		out += fmt.Sprintf("  attempt %d", s.Attempt)
	}
	if !s.At.IsZero() {
		out += "  " + stamp(s.At)
	}
	if s.Reason != "" {
		out += "  (" + printable(s.Reason) + ")"
	}
	return out + "\n"
}

// outcome turns the states into the exit code of send -wait. late says that the wait ended by its
// timeout; "sent" is then on its way, otherwise final.
func (p *publishedJSON) outcome(timeout time.Duration, late bool) error {
	var open, bad int
	for _, s := range p.States {
		switch st, _ := message.ParseState(s.State); {
		case st == message.Delivered, st == message.Sent && !late:
		case st.Final():
			bad++
		default:
			open++
		}
	}
	switch n := len(p.States); {
	case open > 0:
		return &failure{exitTimeout, fmt.Sprintf("not delivered to %d of %d within %s; it stays stored", open, n, appliance.FormatDuration(timeout)), "see: edgepost trace " + p.ID}
	case bad > 0:
		return &failure{exitFailed, fmt.Sprintf("%d of %d did not take it", bad, n), "see: edgepost trace " + p.ID}
	case n == 0:
		return &failure{exitFailed, "it is stored, but no device and no durable subscription waits for its topic", ""}
	}
	return nil
}
