//go:build !omit_rabbitmq

package rabbitmq

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
)

// refusal says what can help when the handshake failed. The library takes every end of it for wrong credentials,
// which RabbitMQ answers by closing the connection.
func (d *dialer) refusal(err error) error {
	switch {
	case errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrSASL):
		return bridge.Errorf(bridge.Configuration, "the broker ends the connection at the log-in of user %q: %w; look at username and password_file or token_file", d.c.Username, err)
	case errors.Is(err, amqp.ErrVhost):
		return bridge.Errorf(bridge.Configuration, "%w; look at the virtual host, the path in urls, and at the user's permissions for it", err)
	}
	if e, ok := errors.AsType[*amqp.Error](err); ok && e.Server {
		return explain(err)
	}
	return fmt.Errorf("the broker ends the connection at its start: %w; is it AMQP 0-9-1 there, with or without TLS as the scheme says?", err)
}

// explain says what can help against a closed channel or connection (AMQP 0-9-1 §1.2.1, reply codes).
func explain(err error) error {
	e, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return err
	}
	switch {
	case e.Code == amqp.NotFound:
		return bridge.Errorf(bridge.Configuration, "%w; create it, or look at options.exchange and down.from", err)
	case e.Code == amqp.AccessRefused:
		return bridge.Errorf(bridge.Configuration, "%w; give the user permissions: configure and write for queues made here, write for the exchange, read for the queues", err)
	case e.Code == amqp.NotAllowed:
		return bridge.Errorf(bridge.Configuration, "%w; look at the virtual host, the path in urls", err)
	case e.Code == amqp.ResourceLocked:
		return bridge.Errorf(bridge.Configuration, "%w; somebody else has the queue for itself", err)
	case e.Code == amqp.PreconditionFailed && strings.Contains(e.Reason, "inequivalent"):
		return bridge.Errorf(bridge.Configuration, "%w; it was made otherwise: leave options.queue_type away to take it as it is", err)
	case e.Code == amqp.NotImplemented:
		return bridge.Errorf(bridge.Configuration, "%w", err)
	}
	return err
}

// tooLarge reads the limit of the broker from the error with which it closes a channel for a larger message; false
// when it is another error.
func tooLarge(err error) (limit int, ok bool) {
	e, is := errors.AsType[*amqp.Error](err)
	if !is || e.Code != amqp.PreconditionFailed {
		return 0, false
	}
	var size int
	i := strings.Index(e.Reason, "message size ")
	if i < 0 {
		return 0, false
	}
	n, _ := fmt.Sscanf(e.Reason[i:], "message size %d is larger than configured max size %d", &size, &limit)
	return limit, n == 2
}
