package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// printable returns s as it may be shown on a terminal: quoted when it has control characters, line
// ends, or is not UTF-8.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// printJSON writes one JSON document as one line.
func (c *call) printJSON(doc []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, doc); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	b.WriteByte('\n')
	return c.print(b.String())
}

// printValue writes a value as one line of JSON.
func (c *call) printValue(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return c.printJSON(b)
}

// printEach writes a line of JSON for each document.
func (c *call) printEach(docs []json.RawMessage) error {
	for _, d := range docs {
		if err := c.printJSON(d); err != nil {
			return err
		}
	}
	return nil
}

// grid collects rows and prints them in columns under a head.
type grid struct{ rows [][]string }

func (g *grid) row(cells ...string) { g.rows = append(g.rows, cells) }

func (c *call) printGrid(g *grid) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range g.rows {
		for i, cell := range r {
			if cell == "" {
				cell = "-"
			}
			if cell = printable(cell); i > 0 {
				cell = "\t" + cell
			}
			fmt.Fprint(t, cell)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	return c.print(b.String())
}

// compact returns JSON without white space, or as it is when it is not JSON.
func compact(doc []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, doc) != nil {
		return string(doc)
	}
	return b.String()
}
