package bridge

import (
	"context"
	"testing"
)

// When a connection was given up nothing more is taken, although there is room: of two messages in a row the second
// one's position would move over the first, which was let go.
func TestNothingIsTakenBehindTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in := newIntake(NewEpoch(ctx, &Kind{}, &Config{}, nil), nil)
	in.Take(Incoming{})
	cancel()
	for range intakeRoom / 2 {
		in.Take(Incoming{})
	}
	if len(in.ch) != 1 {
		t.Errorf("%d were taken behind the end", len(in.ch)-1)
	}
}
