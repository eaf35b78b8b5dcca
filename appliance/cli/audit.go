package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"edgepost/appliance/guard/audit"
)

// auditPage is how many records are asked for at once.
const auditPage = 500

func auditCommand() *command {
	var verify bool
	var head string
	last := 50
	c := &command{name: "audit", short: "show who did what, and check that nothing was changed", flags: newFlags()}
	c.long = `
Sign-ins and their failures, set-up and every administrative change, oldest first. Each record carries the hash
of the one before it: -verify finds a record that was changed or is missing, and prints the head of the chain. Note
it elsewhere, and later say it with -head: that finds out whether somebody wrote all of it anew.`
	c.flags.BoolVar(&verify, "verify", false, "check the chain instead of showing it; exit 1 when it is broken")
	c.flags.StringVar(&head, "head", "", "with -verify: the chain must still hold the record `N:HASH`, which -verify printed once")
	c.flags.IntVar(&last, "n", 50, "show the last `N` records")
	c.run = func(ctx context.Context, call *call) error {
		records, err := call.auditRecords(ctx)
		if err != nil {
			return err
		}
		if verify || head != "" {
			return call.verifyAudit(records, head)
		}
		records = records[max(0, len(records)-max(last, 0)):]
		if call.json {
			return call.printEach(records)
		}
		g := &grid{}
		g.row("N", "AT", "ACTOR", "FROM", "ACTION", "OBJECT", "RESULT")
		for _, doc := range records {
			r, _, err := audit.Parse(doc)
			if err != nil {
				g.row("?", "", "", "", "", "", "unreadable")
				continue
			}
			g.row(strconv.FormatUint(r.N, 10), stamp(r.At), r.Actor, r.From, r.Action, r.Object, r.Result)
		}
		return call.printGrid(g)
	}
	return c
}

// auditRecords reads all kept records, byte for byte.
func (c *call) auditRecords(ctx context.Context) ([]json.RawMessage, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	var all []json.RawMessage
	for after := uint64(0); ; {
		var page struct {
			Records []json.RawMessage `json:"records"`
		}
		body, err := cl.do(ctx, request{method: http.MethodGet, path: "/v1/audit", query: url.Values{
			"limit": {strconv.Itoa(auditPage)}, "after": {strconv.FormatUint(after, 10)},
		}})
		if err != nil {
			return nil, err
		}
		if err := cl.decode(body, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Records...)
		before := after
		for _, doc := range page.Records {
			if r, _, err := audit.Parse(doc); err == nil {
				after = max(after, r.N)
			}
		}
		if len(page.Records) < auditPage || after == before {
			return all, nil
		}
	}
}

func (c *call) verifyAudit(records []json.RawMessage, head string) error {
	var v audit.Verifier
	if head != "" {
		var err error
		if v.Want, err = audit.ParseHead(head); err != nil {
			return usage("audit", "audit: %s", err)
		}
	}
	broken := ""
	for _, doc := range records {
		if err := v.Add(doc); err != nil {
			broken = err.Error()
			break
		}
	}
	if broken == "" && head != "" && !v.Found {
		broken = fmt.Sprintf("the chain does not hold the record %s", clip(head))
	}
	if c.json {
		if err := c.printValue(struct {
			OK     bool   `json:"ok"`
			First  uint64 `json:"first"`
			Last   uint64 `json:"last"`
			Head   string `json:"head"`
			Broken string `json:"broken,omitempty"`
		}{broken == "", v.First, v.Head.N, v.Head.String(), broken}); err != nil {
			return err
		}
	}
	if broken != "" {
		return &failure{exitFailed, "the audit is broken: " + broken, ""}
	}
	if c.json {
		return nil
	}
	return c.print(fmt.Sprintf("OK: %d records, %d to %d; head %s\n", v.Count, v.First, v.Head.N, v.Head))
}
