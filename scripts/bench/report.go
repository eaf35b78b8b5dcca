package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// report is everything that -json writes.
type report struct {
	Machine    machine   `json:"machine"`
	Command    []string  `json:"command"`
	Started    time.Time `json:"started"`
	Seconds    float64   `json:"seconds"`
	LoadBefore string    `json:"load_before"`
	LoadAfter  string    `json:"load_after"`
	Tables     []table   `json:"tables"`
}

func newReport(b *bench) *report {
	return &report{Machine: readMachine(b), Command: os.Args, Started: time.Now(), LoadBefore: loadAverage()}
}

func (r *report) finish() {
	r.Seconds, r.LoadAfter = time.Since(r.Started).Seconds(), loadAverage()
}

// table is what is printed of one section. Figures are the same, for programs, and more.
type table struct {
	Section string   `json:"section"`
	Title   string   `json:"title"`
	Rows    []row    `json:"rows,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Figures any      `json:"figures,omitempty"`
}

// row compares one figure with the peer's. Better is how many times better ours is, 0 without a peer.
type row struct {
	What   string  `json:"what"`
	Ours   figure  `json:"edgepost"`
	Peer   figure  `json:"peer,omitzero"`
	Name   string  `json:"peer_name,omitempty"`
	Better float64 `json:"ratio,omitempty"`
	Reach  string  `json:"reach,omitempty"` // what DESIGN §10 wants
}

// figure is one number as it is printed, with what else there is to say of it.
type figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	More  string  `json:"more,omitempty"`
}

// faster compares two figures of which the larger one is better.
func faster(what string, ours, peer figure, name, reach string) row {
	return row{what, ours, peer, name, ratio(ours.Value, peer.Value), reach}
}

// cheaper compares two figures of which the smaller one is better.
func cheaper(what string, ours, peer figure, name, reach string) row {
	return row{what, ours, peer, name, ratio(peer.Value, ours.Value), reach}
}

// alone is a figure without a peer.
func alone(what string, ours figure, reach string) row {
	return row{What: what, Ours: ours, Reach: reach}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func (t *table) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "### %s\n\n", t.Title)
	if len(t.Rows) > 0 {
		s.WriteString("| what | edgepost | peer | ratio | to reach |\n|---|---:|---:|---:|---|\n")
	}
	for _, r := range t.Rows {
		peer, times := "–", "–"
		if r.Name != "" {
			peer = r.Name + ": " + r.Peer.String()
		}
		if r.Better > 0 {
			times = fmt.Sprintf("**%s×**", round(r.Better))
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s |\n", r.What, r.Ours, peer, times, r.Reach)
	}
	for i, n := range t.Notes {
		if i == 0 && len(t.Rows) > 0 {
			s.WriteString("\n")
		}
		s.WriteString(n + "\n\n")
	}
	return s.String()
}

func (f figure) String() string {
	s := round(f.Value)
	if f.Unit != "" {
		s += " " + f.Unit
	}
	if f.More != "" {
		s += " (" + f.More + ")"
	}
	return s
}

// round writes three digits, with separators from a thousand on.
func round(v float64) string {
	switch {
	case v < 0:
		return "−" + round(-v)
	case v == 0:
		return "0"
	case v < 0.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func millis(d time.Duration) string { return round(float64(d)/1e6) + " ms" }
