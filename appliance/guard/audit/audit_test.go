package audit

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// chain makes n records.
func chain(t *testing.T, n int) (records [][]byte, heads []Head) {
	t.Helper()
	var head Head
	for range n {
		b, next, err := head.Next(Record{Actor: "user/ann", Action: "device.add", Object: "灯", Result: OK, At: time.Unix(1_800_000_000, 5)})
		if err != nil {
			t.Fatal(err)
		}
		head = next
		records, heads = append(records, b), append(heads, head)
	}
	return records, heads
}

func verify(records [][]byte, want Head) (Verifier, error) {
	v := Verifier{Want: want}
	for _, b := range records {
		if err := v.Add(b); err != nil {
			return v, err
		}
	}
	return v, nil
}

func TestChain(t *testing.T) {
	records, heads := chain(t, 20)
	v, err := verify(records, heads[7])
	if err != nil || v.First != 1 || v.Count != 20 || v.Head != heads[19] || !v.Found {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err := verify(records[5:], heads[2]); err != nil || v.First != 6 || v.Found { // the oldest are not kept for ever
		t.Errorf("%+v, %v", v, err)
	}
	r, head, err := Parse(records[3])
	if err != nil || r.N != 4 || r.Object != "灯" || head != heads[3] {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestEveryChangeShows(t *testing.T) {
	records, heads := chain(t, 6)
	gap := slices.Concat(records[:2], records[3:])
	turned := slices.Clone(records)
	turned[2], turned[3] = turned[3], turned[2]
	twice := slices.Insert(slices.Clone(records), 3, records[3])
	for name, list := range map[string][][]byte{"gap": gap, "turned": turned, "twice": twice, "null": slices.Insert(slices.Clone(records), 2, []byte("null"))} {
		if _, err := verify(list, Head{}); err == nil {
			t.Errorf("%s is not found", name)
		}
	}
	for at := range len(records) - 1 { // the last one has nothing behind it that could tell; its head does
		for _, old := range []string{"ann", "add", "灯", "ok"} {
			list := slices.Clone(records)
			list[at] = bytes.Replace(list[at], []byte(old), []byte("xx"), 1)
			if _, err := verify(list, Head{}); err == nil {
				t.Errorf("record %d: %s was changed and nobody saw it", at+1, old)
			}
		}
	}
	anew, _ := chain(t, 5)
	anew[4] = bytes.Replace(anew[4], []byte("ann"), []byte("eve"), 1)
	if v, _ := verify(anew, heads[4]); v.Found {
		t.Error("a chain written anew holds the head that was noted")
	}
}

func TestHeads(t *testing.T) {
	_, heads := chain(t, 2)
	if h, err := ParseHead(heads[1].String()); err != nil || h != heads[1] {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{"", "1", "1:", "x:" + strings.Repeat("0", 64), "1:" + strings.Repeat("0", 63), "1:" + strings.Repeat("g", 64)} {
		if _, err := ParseHead(bad); err == nil {
			t.Errorf("%q is a head", bad)
		}
	}
}

func TestTextsAreBounded(t *testing.T) {
	b, _, err := Head{}.Next(Record{Action: "x", Object: strings.Repeat("灯", 1000), Note: "a\xffb", Result: OK})
	if err != nil || len(b) > 1000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, _, err := Parse(b); err != nil {
		t.Error(err)
	}
}

func FuzzVerifier(f *testing.F) {
	f.Add([]byte(`{"n":1,"prev":"","action":"x","result":"ok"}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var v Verifier
		if v.Add(a) == nil && v.Add(b) == nil && v.Head.N != v.First+1 {
			t.Fatalf("%+v", v)
		}
	})
}
