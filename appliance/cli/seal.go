package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"unicode/utf8"

	"edgepost/appliance/guard/seal"
)

func sealKey() *command {
	c := &command{name: "seal key", short: "make a key for sealed payloads and print it", flags: newFlags(), local: true}
	c.long = `
It prints a JSON Web Key of 256 bits and tells nobody. Give it to the device and to whoever sends to it: send -seal FILE
seals with it, listen -open FILE opens, and the appliance carries what it cannot read. For a device that cannot do TLS
see device seal.`
	c.run = func(_ context.Context, call *call) error { return call.print(string(seal.NewKey().JWK()) + "\n") }
	return c
}

func deviceSeal() *command {
	var file string
	var fresh bool
	c := &command{name: "device seal", args: "ID FORM", short: "seal what a device gets, and open what it publishes, on the gateway", flags: newFlags()}
	c.long = `
For a device that cannot do TLS. FORM is jwe (compact JWE, dir with A256GCM), a256gcm (33 bytes more than the payload, see go
doc ./appliance/guard/seal) or off, which also forgets the key. Every payload is sealed on its way to the device, under the
topic that it was sent to; the device publishes sealed payloads only, and what does not open is refused. The first time a key
is made. It is printed, as a JSON Web Key, and not shown again. Connections of the device end. For a new key send it through
a channel that the old one does not protect.`
	c.flags.StringVar(&file, "key", "", "use the key in `FILE`, such as one that was made with the device")
	c.flags.BoolVar(&fresh, "new", false, "make another key in place of the one that is there, and print it")
	c.run = func(ctx context.Context, call *call) error { return call.deviceSeal(ctx, file, fresh) }
	return c
}

func (c *call) deviceSeal(ctx context.Context, file string, fresh bool) error {
	form, err := seal.ParseForm(c.args[1])
	if err != nil {
		return usage("device seal", "device seal: %v", err)
	}
	body := struct {
		Form seal.Form       `json:"form"`
		Key  json.RawMessage `json:"key,omitempty"`
		New  bool            `json:"new,omitempty"`
	}{Form: form, New: fresh}
	if file != "" {
		k, err := readSealKey(file)
		if err != nil {
			return err
		}
		body.Key = k.JWK()
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	var now struct {
		KeyID string          `json:"seal_key"`
		Key   json.RawMessage `json:"key"`
	}
	answer, err := cl.call(ctx, http.MethodPut, "/v1/devices/"+url.PathEscape(c.args[0])+"/seal", &body, &now)
	switch {
	case err != nil:
		return err
	case c.json:
		return c.printJSON(answer)
	case form == seal.None:
		c.note("the payloads of %s are no longer sealed, and its key is forgotten", clip(c.args[0]))
		return nil
	}
	c.note("the payloads of %s are sealed as %s with key %s", clip(c.args[0]), form, now.KeyID)
	if len(now.Key) == 0 {
		return nil
	}
	return c.print(string(now.Key) + "\n")
}

// readSealKey reads a key file.
func readSealKey(name string) (k seal.Key, err error) {
	f, err := os.Open(name)
	if err != nil {
		return k, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 8<<10))
	if err != nil {
		return k, fmt.Errorf("read key: %w", err)
	}
	if k, err = seal.ParseKey(b); err != nil {
		return k, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

// opener opens sealed payloads of one key. A nil opener opens nothing.
type opener struct {
	box  *seal.Box
	seen ring // nonces
	note func(format string, args ...any)
}

// open replaces the payload of a message that is sealed with the key. doc is the message as it came, and the answer as it
// is to be shown. What does not open stays as it is, with a note; again says that it came before under another id.
func (o *opener) open(doc []byte, m *messageJSON) (shown []byte, again bool) {
	form := seal.FormOf(m.Type)
	payload := m.bytes()
	if id, ok := form.KeyID(payload); o == nil || !ok || id != o.box.KeyID() {
		return doc, false
	}
	c, err := o.box.Open(form, m.Topic, payload)
	if err != nil {
		o.note("message %s does not open: %v", m.ID, err)
		return doc, false
	}
	if o.seen.has(string(c.Nonce[:])) {
		o.note("message %s is left out: the same sealed payload came before under another id", m.ID)
		return nil, true
	}
	o.seen.add(string(c.Nonce[:]))
	m.set(c)
	return m.replaced(doc), false
}

// bytes is the payload as it was published.
func (m *messageJSON) bytes() []byte {
	switch {
	case len(m.Data) > 0:
		return m.Data
	case m.Text != nil:
		return []byte(*m.Text)
	}
	return m.Bytes
}

// set gives the message another payload.
func (m *messageJSON) set(c seal.Content) {
	m.Type, m.Data, m.Text, m.Bytes = c.Type, nil, nil, nil
	if text := string(c.Payload); utf8.ValidString(text) {
		m.Text = &text
	} else {
		m.Bytes = c.Payload
	}
}

// replaced is doc with the payload that m has now.
func (m *messageJSON) replaced(doc []byte) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(doc, &all) != nil {
		return doc
	}
	for _, name := range []string{"ct", "data", "text", "data_base64"} {
		delete(all, name)
	}
	put := func(name string, v any) {
		if b, err := json.Marshal(v); err == nil {
			all[name] = b
		}
	}
	if m.Type != "" {
		put("ct", m.Type)
	}
	switch {
	case m.Text != nil && guessType([]byte(*m.Text)) == "application/json" && m.Type == "application/json":
		all["data"] = json.RawMessage(*m.Text)
	case m.Text != nil:
		put("text", *m.Text)
	default:
		put("data_base64", m.Bytes)
	}
	b, err := json.Marshal(all)
	if err != nil {
		return doc
	}
	return b
}
