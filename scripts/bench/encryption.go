package main

import (
	"context"
	"fmt"
	"slices"
)

// encrypted is how a child is told to encrypt its log.
const encrypted = "encrypted"

// pair is the same load on a plain log and on an encrypted one, round by round.
type pair struct {
	Publishers int        `json:"publishers"`
	Plain      []measured `json:"plain"`
	Encrypted  []measured `json:"encrypted"`
	Ratios     []float64  `json:"ratios"` // encrypted to plain, of one round
}

// encryptionSection measures what encryption at rest costs durable publishes. The two sides alternate, and which of
// them comes first, because the disk and other users of the machine change within seconds.
func encryptionSection(ctx context.Context, b *bench) ([]table, error) {
	rounds := 7
	if b.quick {
		rounds = 1
	}
	t := table{
		Title: "Durable publishes of 256 bytes through the Go API, log encrypted (the cipher chosen by the processor) and plain",
		Notes: []string{fmt.Sprintf("The medians of %d rounds, and as the ratio the median of the rounds' ratios; each round measures both, by turns first. 0.9 is a cost of 10 %%.", rounds)},
	}
	var all []pair
	for _, n := range []int{1, 64} {
		p := pair{Publishers: n}
		for i := range rounds {
			var plain, cipher measured
			sides := []func() error{
				func() error { return b.inChild(ctx, &plain, "edgepost-publish", n) },
				func() error { return b.inChild(ctx, &cipher, "edgepost-publish", n, encrypted) },
			}
			if i%2 == 1 {
				slices.Reverse(sides)
			}
			for _, side := range sides {
				if err := side(); err != nil {
					return nil, fmt.Errorf("%d publishers: %w", n, err)
				}
			}
			p.Plain, p.Encrypted = append(p.Plain, plain), append(p.Encrypted, cipher)
			p.Ratios = append(p.Ratios, ratio(cipher.Rate, plain.Rate))
		}
		all = append(all, p)
		slices.Sort(p.Ratios)
		t.Rows = append(t.Rows, row{
			What: plural(n, "publisher") + ", encrypted", Ours: rateOf(median(p.Encrypted)), Peer: rateOf(median(p.Plain)), Name: "plain",
			Better: p.Ratios[rounds/2], Reach: "≥ 0.9×",
		})
		t.Notes = append(t.Notes, fmt.Sprintf("%s, ratio of each round, sorted: %.2f. Processor time per message, publishers included: %s µs encrypted, %s µs plain.",
			plural(n, "publisher"), p.Ratios, round(median(p.Encrypted).CPU), round(median(p.Plain).CPU)))
	}
	t.Figures = all
	return []table{t}, nil
}

// median is the round in the middle by its rate.
func median(rounds []measured) *measured {
	sorted := slices.Clone(rounds)
	slices.SortFunc(sorted, func(a, b measured) int { return int(a.Rate - b.Rate) })
	return &sorted[len(sorted)/2]
}
