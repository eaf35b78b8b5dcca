package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// messageJSON is a message as the API and the WebSocket write it.
type messageJSON struct {
	Sub   int             `json:"sub"`
	Seq   uint64          `json:"seq"`
	ID    string          `json:"id"`
	Topic string          `json:"topic"`
	Type  string          `json:"ct"`
	Time  time.Time       `json:"time"`
	From  string          `json:"from"`
	Data  json.RawMessage `json:"data"`
	Text  *string         `json:"text"`
	Bytes []byte          `json:"data_base64"`
}

// payload shows the payload on one line: JSON and text as they are, text with control characters
// quoted, other bytes quoted too.
func (m *messageJSON) payload() string {
	switch {
	case len(m.Data) > 0:
		return printable(compact(m.Data))
	case m.Text != nil:
		return printable(*m.Text)
	}
	return printable(string(m.Bytes))
}

func traceCommand() *command {
	c := &command{name: "trace", args: "ID", short: "show where a message is, and why it waits", flags: newFlags()}
	c.long = `
The first line is the message as it was stored; then comes a line for each subscription that has or had
it: stored, waiting, sent, delivered, expired, dead, cancelled or lost, and the reason.`
	c.run = func(ctx context.Context, call *call) error {
		var t struct {
			Message *messageJSON `json:"message"`
			States  []stateJSON  `json:"states"`
			Partial bool         `json:"partial"`
		}
		body, err := call.get(ctx, "/v1/messages/"+url.PathEscape(call.args[0]), &t)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		var b strings.Builder
		if m := t.Message; m != nil {
			fmt.Fprintf(&b, "stored     %s  %s", m.ID, printable(m.Topic))
			if m.From != "" {
				fmt.Fprintf(&b, "  from %s", printable(m.From))
			}
			if !m.Time.IsZero() {
				fmt.Fprintf(&b, "  %s", stamp(m.Time))
			}
			b.WriteByte('\n')
		}
		for _, s := range t.States {
			b.WriteString(s.line())
		}
		switch {
		case t.Partial:
			b.WriteString("It was settled long ago; its outcomes are no longer all kept.\n")
		case len(t.States) == 0:
			b.WriteString("No subscription matched it.\n")
		}
		return call.print(b.String())
	}
	return c
}
