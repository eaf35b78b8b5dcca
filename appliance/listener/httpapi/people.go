package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// audited has the core see where the request comes from, for its audit.
func (c *call) audited() {
	creds, _ := auth.FromRequest(c.r) // the address is there whatever is wrong with the rest
	c.r = c.r.WithContext(auth.WithRemote(c.r.Context(), creds.Remote))
}

// private refuses to read a password from a connection that others on the network can read.
func (c *call) private() error {
	if auth.Private(c.r) {
		return nil
	}
	return message.Problemf(message.CodeForbidden, "passwords are taken over HTTPS, or on the gateway itself; this connection is neither")
}

// sessionID is the session with which the request came; "" when it came with something else.
func (c *call) sessionID() string {
	creds, err := auth.FromRequest(c.r)
	if err != nil || creds.Name != "" || creds.Token != "" || creds.Ticket != "" {
		return ""
	}
	return creds.Session
}

func (a *api) showSetup(c *call) error {
	return c.json(http.StatusOK, &struct {
		Needed  bool   `json:"needed"`
		Gateway string `json:"gateway"`
	}{!a.core.IsSetUp(), a.Gateway()})
}

// setUp makes the first administrator.
func (a *api) setUp(c *call) error {
	var b struct {
		Code     string `json:"code"`
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if err := c.private(); err != nil {
		return err
	}
	if err := c.document(&b); err != nil {
		return err
	}
	session, err := a.core.SetUp(c.r.Context(), b.Code, b.Name, b.Password)
	if err != nil {
		return err
	}
	return a.signedIn(c, session, b.Name)
}

func (a *api) newSetupCode(c *call) error {
	code, err := a.core.NewSetupCode(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, map[string]string{"code": code})
}

func (a *api) signIn(c *call) error {
	var b struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if err := c.private(); err != nil {
		return err
	}
	if err := c.document(&b); err != nil {
		return err
	}
	session, err := a.core.SignIn(c.r.Context(), b.Name, b.Password)
	if err != nil {
		return err
	}
	return a.signedIn(c, session, b.Name)
}

// sessionJSON says who is asking.
type sessionJSON struct {
	Principal string `json:"principal"`
	Kind      string `json:"kind"`
	Name      string `json:"name,omitempty"`
	Admin     bool   `json:"admin"`
	ExpiresIn int64  `json:"expires_in,omitempty"` // seconds, unless it is used
}

func (a *api) signedIn(c *call, session, name string) error {
	auth.SetSessionCookie(c.w, c.r, session)
	s := sessionJSON{Principal: "user/" + name, Kind: auth.User.String(), Name: name, ExpiresIn: int64(a.core.SessionLeft(session) / time.Second)}
	if g, ok := a.core.Current(s.Principal); ok {
		s.Admin = g.Admin
	}
	return c.json(http.StatusCreated, &s)
}

func (a *api) showSession(c *call) error {
	g := c.grant
	s := sessionJSON{Principal: g.Principal(), Kind: g.Kind.String(), Name: g.Name, Admin: g.Admin}
	if id := c.sessionID(); id != "" {
		s.ExpiresIn = int64(a.core.SessionLeft(id) / time.Second)
	}
	return c.json(http.StatusOK, &s)
}

func (a *api) signOut(c *call) error {
	id := c.sessionID()
	if id == "" {
		return message.Problemf(message.CodeBadRequest, "nobody is signed in here: there is no session to end")
	}
	a.core.SignOut(c.r.Context(), c.grant, id)
	auth.SetSessionCookie(c.w, c.r, "")
	return c.done()
}

// userBody is what a client says about a user.
type userBody struct {
	Name     string        `json:"name"`
	Label    string        `json:"label"`
	Admin    bool          `json:"admin"`
	Rules    message.Rules `json:"rules"`
	Password string        `json:"password"`
}

func (b *userBody) user() registry.User {
	return registry.User{Name: b.Name, Label: b.Label, Admin: b.Admin, Rules: b.Rules}
}

func (a *api) listUsers(c *call) error {
	users, err := a.core.Users(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]registry.User{"users": orEmpty(users)})
}

func (a *api) addUser(c *call) error {
	if err := c.private(); err != nil {
		return err
	}
	var b userBody
	if err := c.document(&b); err != nil {
		return err
	}
	if err := a.core.AddUser(c.r.Context(), c.grant, b.user(), b.Password); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/users/"+url.PathEscape(b.Name))
	u := b.user()
	return c.json(http.StatusCreated, &u)
}

func (a *api) showUser(c *call) error {
	if err := message.CheckName("user name", c.params[0]); err != nil {
		return err
	}
	u, err := a.core.User(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &u)
}

func (a *api) updateUser(c *call) error {
	if err := message.CheckName("user name", c.params[0]); err != nil {
		return err
	}
	var b userBody
	if err := c.document(&b); err != nil {
		return err
	}
	if b.Name != "" && b.Name != c.params[0] || b.Password != "" {
		return message.Problemf(message.CodeBadRequest, "a name does not change, and a password is set with PUT /v1/users/%.64s/password", c.params[0])
	}
	b.Name = c.params[0]
	if err := a.core.UpdateUser(c.r.Context(), c.grant, b.user()); err != nil {
		return err
	}
	return c.done()
}

func (a *api) setPassword(c *call) error {
	if err := message.CheckName("user name", c.params[0]); err != nil {
		return err
	}
	if err := c.private(); err != nil {
		return err
	}
	var b struct {
		Present  string `json:"present"`
		Password string `json:"password"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	if err := a.core.SetPassword(c.r.Context(), c.grant, c.params[0], b.Present, b.Password, c.sessionID()); err != nil {
		return err
	}
	return c.done()
}

func (a *api) removeUser(c *call) error {
	if err := message.CheckName("user name", c.params[0]); err != nil {
		return err
	}
	if err := a.core.RemoveUser(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

// listAudit answers with records as they were chained, byte for byte.
func (a *api) listAudit(c *call) error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	records, err := a.core.Audit(c.r.Context(), c.grant, after, limit)
	if err != nil {
		return err
	}
	c.list("records", len(records), func(b []byte, i int) []byte {
		if !json.Valid(records[i]) { // damaged: the reader sees that the chain is broken
			return append(b, "null"...)
		}
		return append(b, records[i]...)
	}, nil)
	return nil
}
