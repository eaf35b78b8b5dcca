package httpapi

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/guard/door"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
	"edgepost/appliance/registry/profile"
)

// maxImport is the most bytes of a list of devices: 10,000 lines of 200 bytes.
const maxImport = 2 << 20

// importDevices registers a list of devices, all or none.
func (a *api) importDevices(c *call) error {
	t, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	if t = strings.ToLower(strings.TrimSpace(t)); t != "text/csv" {
		return message.Problemf(message.CodeBadMediaType, "Content-Type %.80q is not supported here; send text/csv", t)
	}
	body, err := c.body(maxImport)
	if err != nil {
		return err
	}
	list, lines, err := readDevices(body)
	if err != nil {
		return err
	}
	tokens, err := a.core.AddDevices(c.r.Context(), c.grant, list)
	if row, ok := errors.AsType[*registry.RowError](err); ok {
		return inLine(lines[row.Row], row.Err)
	}
	if err != nil {
		return err
	}
	made := make([]tokenJSON, len(list))
	for i := range list {
		made[i] = tokenJSON{ID: list[i].ID, Token: tokens[i]}
	}
	return c.json(http.StatusCreated, map[string][]tokenJSON{"devices": made})
}

// inLine says in which line of the list something is wrong.
func inLine(line int, err error) error {
	p := message.ProblemOf(err)
	if p == nil {
		return err
	}
	return message.Problemf(p.Code, "line %d: %s; nothing was added", line, p.Detail)
}

// columns of a list; id is needed.
var columns = []string{"id", "label", "groups", "token", "profile"}

// readDevices reads a list: RFC 4180, the first line names the columns, groups are separated by blanks or semicolons. lines says where
// each device begins, from 1.
func readDevices(text []byte) (list []registry.Enrolment, lines []int, err error) {
	if !utf8.Valid(text) {
		return nil, nil, message.Problemf(message.CodeBadUTF8, "the list is not valid UTF-8; save it as UTF-8")
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\uFEFF"))))
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if err != nil {
		return nil, nil, csvProblem(err)
	}
	at, err := readHead(head)
	if err != nil {
		return nil, nil, err
	}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, csvProblem(err)
		}
		cell := func(column string) string {
			if i := at[column]; i > 0 {
				return strings.TrimSpace(row[i-1])
			}
			return ""
		}
		var e registry.Enrolment
		e.ID, e.Label, e.Profile, e.Token = cell("id"), cell("label"), cell("profile"), cell("token")
		e.Groups = strings.FieldsFunc(cell("groups"), func(r rune) bool { return r == ' ' || r == ';' })
		line, _ := r.FieldPos(0)
		list, lines = append(list, e), append(lines, line)
		if len(list) > registry.MaxEnrol {
			return nil, nil, message.Problemf(message.CodeTooMany, "line %d: a list has at most %d devices", line, registry.MaxEnrol)
		}
	}
	if len(list) == 0 {
		return nil, nil, message.Problemf(message.CodeBadRequest, "the list has no device; the first line names the columns: %s", strings.Join(columns, ","))
	}
	return list, lines, nil
}

// readHead maps the columns to their places, from 1.
func readHead(head []string) (map[string]int, error) {
	at := make(map[string]int)
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case !slices.Contains(columns, name):
			return nil, message.Problemf(message.CodeBadRequest, "line 1: there is no column %.40q; there are: %s", name, strings.Join(columns, ", "))
		case at[name] > 0:
			return nil, message.Problemf(message.CodeBadRequest, "line 1: the column %s is there twice", name)
		}
		at[name] = i + 1
	}
	if at["id"] == 0 {
		return nil, message.Problemf(message.CodeBadRequest, "line 1: the column id is missing; the first line names the columns: %s", strings.Join(columns, ","))
	}
	return at, nil
}

func csvProblem(err error) error {
	if errors.Is(err, io.EOF) {
		return message.Problemf(message.CodeBadRequest, "the list is empty; the first line names the columns: %s", strings.Join(columns, ","))
	}
	if p := (*csv.ParseError)(nil); errors.As(err, &p) {
		return message.Problemf(message.CodeBadRequest, "line %d: %v", p.Line, p.Err)
	}
	return err
}

func (a *api) listProfiles(c *call) error {
	set := a.core.Profiles()
	list := make([]*profile.Profile, 0, len(set))
	for _, name := range set.Names() {
		list = append(list, set[name])
	}
	return c.json(http.StatusOK, map[string][]*profile.Profile{"profiles": list})
}

// claimJSON shows a code, this once.
type claimJSON struct {
	ID    string `json:"id"`
	Claim string `json:"claim"`
	QR    string `json:"qr"` // what a QR code of it says
}

func (a *api) makeClaim(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	code, contents, err := a.core.MakeClaim(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, &claimJSON{c.params[0], code, contents})
}

func (a *api) claim(c *call) error {
	var b struct {
		Code string `json:"code"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	id, token, err := a.core.Claim(c.r.Context(), b.Code)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, tokenJSON{ID: id, Token: token})
}

// waitingJSON shows a device that waits at the door.
type waitingJSON struct {
	Name        string     `json:"name"`
	Fingerprint string     `json:"fingerprint"`
	Via         string     `json:"via"`
	From        netip.Addr `json:"from"`
	Since       time.Time  `json:"since"`
	Seen        time.Time  `json:"seen"`
	Tries       int        `json:"tries"`
	Short       bool       `json:"short,omitempty"` // its password is too short to be pinned
}

func (a *api) showDoor(c *call) error {
	waiting, left, err := a.core.AtDoor(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return a.door(c, http.StatusOK, waiting, left)
}

func (a *api) door(c *call, status int, waiting []door.Waiting, left time.Duration) error {
	list := make([]waitingJSON, len(waiting))
	for i, w := range waiting {
		list[i] = waitingJSON{w.Name, w.Fingerprint, w.Via, w.From, w.Since.UTC(), w.Seen.UTC(), w.Tries, w.Short}
	}
	return c.json(status, &struct {
		Open    bool          `json:"open"`
		Left    int64         `json:"left"` // seconds
		Waiting []waitingJSON `json:"waiting"`
	}{left > 0, int64((left + time.Second - 1) / time.Second), list})
}

func (a *api) openDoor(c *call) error {
	var b struct {
		Minutes int `json:"minutes"`
	}
	if c.r.ContentLength != 0 {
		if err := c.document(&b); err != nil {
			return err
		}
		if b.Minutes < 0 || b.Minutes > int(door.MaxOpen/time.Minute) {
			return message.Problemf(message.CodeBadRequest, "minutes is %d; it must be 1 to %d", b.Minutes, int(door.MaxOpen/time.Minute))
		}
	}
	if err := a.core.OpenDoor(c.r.Context(), c.grant, time.Duration(b.Minutes)*time.Minute); err != nil {
		return err
	}
	waiting, left, err := a.core.AtDoor(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return a.door(c, http.StatusCreated, waiting, left)
}

func (a *api) closeDoor(c *call) error {
	if err := a.core.CloseDoor(c.r.Context(), c.grant); err != nil {
		return err
	}
	return c.done()
}

func (a *api) approve(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	var b deviceBody
	if c.r.ContentLength != 0 {
		if err := c.document(&b); err != nil {
			return err
		}
	}
	if err := b.only(false, true); err != nil {
		return err
	}
	if b.ID != "" && b.ID != c.params[0] {
		return message.Problemf(message.CodeBadRequest, "it waits as %.64s; a device joins under the name that it presents", c.params[0])
	}
	b.ID = c.params[0]
	if err := a.core.Approve(c.r.Context(), c.grant, b.device(), b.Fingerprint); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/devices/"+url.PathEscape(b.ID))
	d := b.device()
	return c.json(http.StatusCreated, &d)
}

func (a *api) refuse(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	var b struct {
		Fingerprint string `json:"fingerprint"`
	}
	if c.r.ContentLength != 0 {
		if err := c.document(&b); err != nil {
			return err
		}
	}
	if err := a.core.Refuse(c.r.Context(), c.grant, c.params[0], b.Fingerprint); err != nil {
		return err
	}
	return c.done()
}
