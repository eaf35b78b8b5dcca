package mqtt

import (
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// method is an authentication method of 5.0 §4.12 that has one step: the authentication data is the token.
// Their names are those of Azure Event Grid, whose clients so connect unchanged.
type method uint8

const (
	noMethod method = iota
	customJWT
	oauth2JWT
)

func (m method) String() string {
	switch m {
	case customJWT:
		return "CUSTOM-JWT"
	case oauth2JWT:
		return "OAUTH2-JWT"
	case noMethod:
	}
	return ""
}

// methodOf returns the method of the name; false when there is none.
func methodOf(name []byte) (method, bool) {
	for _, m := range [...]method{customJWT, oauth2JWT} {
		if m.String() == string(name) {
			return m, true
		}
	}
	return noMethod, false
}

// begin looks at the authentication method of a CONNECT.
func (s *session) begin(p *packet.Packet) (code byte) {
	if !p.Props.Has(packet.PropAuthMethod) {
		return packet.Success
	}
	m, ok := methodOf(p.Props.AuthMethod)
	switch {
	case !ok: // [MQTT-4.12.0-1]
		return packet.BadAuthenticationMethod
	case p.HasPassword: // which of the two counts?
		return packet.BadUserNameOrPassword
	case len(p.Props.AuthData) == 0:
		return packet.NotAuthorized
	}
	s.method = m
	return packet.Success
}

// authenticate says who a CONNECT is from.
func (s *session) authenticate(p *packet.Packet) (*auth.Grant, *message.Problem) {
	switch {
	case s.method != noMethod:
		return s.check(string(p.Username), string(p.Props.AuthData))
	case s.early != nil && !p.HasUsername && !p.HasPassword:
		return s.early, nil
	}
	return s.check(string(p.Username), string(p.Password))
}

// certified is a connection over TLS whose client may have shown a certificate.
type certified interface {
	Device() string     // that the certificate names; "" none
	Thumbprint() string // of the certificate
}

func (s *session) check(name, token string) (*auth.Grant, *message.Problem) {
	ctx, cancel := s.srv.request()
	defer cancel()
	c := auth.Credentials{Name: name, Token: token, Remote: s.remote, Via: "mqtt"}
	if proved, ok := s.conn.(certified); ok && proved.Device() != "" {
		c.Device, c.Shown = proved.Device(), proved.Thumbprint()
	}
	g, err := s.srv.o.Authenticator.Authenticate(ctx, c)
	if err != nil {
		return nil, s.problemOf(err, "authenticate")
	}
	return g, nil
}

// reauthenticate handles an AUTH: a new token of the same principal, before the old one ends (5.0 §4.12.1). What
// it allows holds from then on; the subscriptions stay, and what they may not receive any more they do not.
func (s *session) reauthenticate(p *packet.Packet) bool {
	if s.method == noMethod || string(p.Props.AuthMethod) != s.method.String() || p.Code != packet.ReAuthenticate {
		return s.bye(packet.ProtocolError, "") // [MQTT-4.12.0-7], [MQTT-4.12.1-1]; no step of ours was to be answered
	}
	g, problem := s.check("", string(p.Props.AuthData))
	switch {
	case len(p.Props.AuthData) == 0: // or a certificate alone would do
		return s.bye(packet.NotAuthorized, "AUTH has no token")
	case problem != nil: // [MQTT-4.12.1-2]
		return s.bye(authCode(problem), problem.Detail)
	case g.Principal() != s.grant.Principal():
		return s.bye(packet.NotAuthorized, "the token belongs to another principal; open a new connection for it")
	}
	s.mu.Lock()
	s.grant = g
	s.replyLocked(appendWithProps(nil, packet.AUTH, []byte{packet.Success}, s.method.appendTo(nil)))
	s.mu.Unlock()
	return true
}

// appendTo writes the method as a property [MQTT-4.12.0-5].
func (m method) appendTo(props []byte) []byte {
	if m == noMethod {
		return props
	}
	return appendString(props, packet.PropAuthMethod, m.String())
}

// authCode is the reason code of the DISCONNECT that answers a failed AUTH: those of CONNACK are not all allowed.
func authCode(p *message.Problem) byte {
	switch p.Code {
	case message.CodeTooMany:
		return packet.ConnectionRateExceeded
	case message.CodeUnavailable, message.CodeTimeout:
		return packet.ServerBusy
	case codeInternal:
		return packet.UnspecifiedError
	}
	return packet.NotAuthorized
}
