package mapping

import (
	"strings"
	"testing"

	"edgepost/appliance/message"
)

func TestAnEventAsksForReceipts(t *testing.T) {
	for value, want := range map[string]message.ReceiptMode{"": message.NoReceipt, "final": message.FinalReceipt, "each": message.EachReceipt} {
		w := Wire{
			Address: "down/lamp", Event: true, ContentType: "text/plain", Body: []byte("on"),
			Headers: []message.Property{{Key: "specversion", Value: "1.0"}, {Key: "id", Value: "1"}, {Key: "source", Value: "/backend"}, {Key: "type", Value: "cmd"}},
		}
		if value != "" {
			w.Headers = append(w.Headers, message.Property{Key: "epreceipt", Value: value})
		}
		d := Down{Format: Auto, To: template(t, "device/${topic[1]}/in/set")}
		m, _, err := d.Decode(&w)
		if err != nil || m.Receipt != want || m.Topic != "device/lamp/in/set" {
			t.Errorf("epreceipt %q: message %+v, error %v; want receipt mode %d", value, m, err, want)
		}
	}
}

func TestAWishThatIsNotUnderstoodIsNamed(t *testing.T) {
	w := Wire{Address: "a", Body: []byte(`{"specversion":"1.0","id":"1","source":"/b","type":"t","subject":"x","epreceipt":"always","data":1}`)}
	if _, _, err := (&Down{Format: Auto}).Decode(&w); err == nil || !strings.Contains(err.Error(), "epreceipt") {
		t.Errorf("got %v, want an error that names epreceipt", err)
	}
}

func template(t *testing.T, s string) Template {
	t.Helper()
	p, err := ParseTemplate(s, Gateway, Topic, Subject)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
