package cli

import (
	"context"
	"net/url"
	"strings"
)

func accessCommands() []*command {
	c := &command{name: "access check", args: "WHO ACTION TOPIC", short: "ask whether somebody may publish or subscribe a topic, and by which rule", flags: newFlags()}
	c.long = `
A dry run: nothing is sent. ACTION is publish or subscribe. WHO is a device, or a principal such as key/app,
user/ann, jwt/corp/alice or anonymous. The exit code is 0 when it is allowed and 4 when it is not.`
	c.run = func(ctx context.Context, call *call) error {
		who := call.args[0]
		if !strings.Contains(who, "/") && who != "anonymous" && who != "owner" {
			who = "device/" + who
		}
		var answer struct {
			Principal string `json:"principal"`
			Allowed   bool   `json:"allowed"`
			Rule      string `json:"rule"`
		}
		q := url.Values{"principal": {who}, "action": {call.args[1]}, "topic": {call.args[2]}}
		body, err := call.get(ctx, "/v1/access/check?"+q.Encode(), &answer)
		if err != nil {
			return err
		}
		if call.json {
			err = call.printJSON(body)
		} else {
			word := "refused"
			if answer.Allowed {
				word = "allowed"
			}
			err = call.print(word + ": " + printable(answer.Rule) + "\n")
		}
		if err == nil && !answer.Allowed {
			err = &failure{exitRefused, printable(answer.Principal) + " may not " + call.args[1] + " " + clip(call.args[2]), ""}
		}
		return err
	}
	return []*command{c}
}
