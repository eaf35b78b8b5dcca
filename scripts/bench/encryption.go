package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"edgepost/appliance"
)

// slice is how long one side is measured at a time. Others that use the machine and its disk slow down neighbouring
// slices alike.
const slice = 400 * time.Millisecond

// sides are the same load on a plain log and on an encrypted one, slice by slice.
type sides struct {
	Publishers int        `json:"publishers"`
	Plain      []measured `json:"plain"`
	Encrypted  []measured `json:"encrypted"`
	Ratios     []float64  `json:"ratios"` // of the rates of neighbours, encrypted to plain, sorted
}

// encryptionSection measures what encryption at rest costs durable publishes.
func encryptionSection(ctx context.Context, b *bench) ([]table, error) {
	pairs := max(int(10*b.span/time.Second), 2)
	t := table{
		Title: "Durable publishes of 256 bytes through the Go API: log encrypted, and plain",
		Notes: []string{fmt.Sprintf("Two appliances in one process take turns of %s, %d each; the rates are of all turns, the ratio is the median of neighbours. The cipher is the one for this processor. 0.9 is a cost of 10 %%.", slice, pairs)},
	}
	var all []sides
	for _, n := range []int{1, 64} {
		dir, err := b.dir()
		if err != nil {
			return nil, err
		}
		var s sides
		if err := b.child(ctx, &s, "edgepost-encryption", dir, n, pairs); err != nil {
			return nil, fmt.Errorf("%d publishers: %w", n, err)
		}
		all = append(all, s)
		enc, plain := sum(s.Encrypted), sum(s.Plain)
		k := len(s.Ratios)
		t.Rows = append(t.Rows, row{
			What: plural(n, "publisher") + ", encrypted", Ours: figure{Value: enc.Rate, Unit: "/s"}, Peer: figure{Value: plain.Rate, Unit: "/s"},
			Name: "plain", Better: s.Ratios[k/2], Reach: "≥ 0.9×",
		})
		t.Notes = append(t.Notes, fmt.Sprintf("%s: half of the ratios lie between %.2f and %.2f; processor time per message, publisher included, %s µs encrypted and %s µs plain.",
			plural(n, "publisher"), s.Ratios[k/4], s.Ratios[k-1-k/4], round(enc.CPU), round(plain.CPU)))
	}
	t.Figures = all
	return []table{t}, nil
}

// sum is the mean rate, and the mean processor time of a call.
func sum(slices []measured) (m measured) {
	for _, s := range slices {
		m.Rate += s.Rate / float64(len(slices))
		m.CPU += s.CPU * float64(s.Total)
		m.Total += s.Total
	}
	m.CPU /= max(float64(m.Total), 1)
	return m
}

// edgepostEncryption is a child: the same durable publishes to an appliance with an encrypted log and to one with a
// plain one, by turns. Arguments: directory, publishers, pairs of turns.
func edgepostEncryption(args arguments) (err error) {
	ctx := context.Background()
	n, pairs := args.number(1), args.number(2)
	out := sides{Publishers: n}
	var publish [2]func() (measured, error)
	for i, cipher := range []appliance.EncryptionConfig{{}, {Enabled: true}} {
		a, failed := embed(filepath.Join(args.text(0), fmt.Sprint(i)), cipher)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, a.Stop(ctx)) }()
		if publish[i], err = publisher(ctx, a, n, payloadBytes, slice); err != nil {
			return err
		}
	}
	for turn := range pairs {
		var got [2]measured
		for i := range got {
			side := i ^ turn&1 // by turns first
			if got[side], err = publish[side](); err != nil {
				return err
			}
		}
		out.Plain, out.Encrypted = append(out.Plain, got[0]), append(out.Encrypted, got[1])
		out.Ratios = append(out.Ratios, ratio(got[1].Rate, got[0].Rate))
	}
	slices.Sort(out.Ratios)
	return answer(&out)
}
