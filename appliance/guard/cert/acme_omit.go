//go:build omit_acme

package cert

import (
	"context"
	"crypto/tls"
	"errors"
)

// HasACME says that ACME is not compiled in.
const HasACME = false

type acmeOrder struct{}

var errOmitted = errors.New("ACME is not compiled into this program; remove section [tls.acme]")

func newACME(*Keeper) (*acmeOrder, error)                      { return nil, errOmitted }
func (*acmeOrder) run(context.Context)                         {}
func (*acmeOrder) certificate(string) *tls.Certificate         { return nil }
func (*acmeOrder) challenge(string) (*tls.Certificate, error)  { return nil, errOmitted }
func (*acmeOrder) response(string) (answer string, known bool) { return "", false }
