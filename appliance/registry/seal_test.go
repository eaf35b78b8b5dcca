package registry

import (
	"context"
	"testing"

	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

func TestSealIsKept(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r, err := Open(dir, Options{})
	must(t, err)
	_, err = r.AddDevice(ctx, Device{ID: "lamp1", Label: "L", Groups: []string{"hall"}})
	must(t, err)
	var seen []Change
	r.Watch(func(c Change) { seen = append(seen, c) })

	key, made, err := r.SetSeal(ctx, "lamp1", seal.JWE, seal.Key{})
	if err != nil || !made || key == (seal.Key{}) {
		t.Fatalf("no key was made: %v %v", made, err)
	}
	if again, made, err := r.SetSeal(ctx, "lamp1", seal.Binary, seal.Key{}); err != nil || made || again != key {
		t.Fatalf("another form made another key: %v %v", made, err)
	}
	if _, _, err := r.SetSeal(ctx, "lamp1", seal.Binary, key); err != nil || len(seen) != 2 {
		t.Errorf("nothing changed, and it was announced: %v %v", seen, err)
	}
	must(t, r.UpdateDevice(ctx, Device{ID: "lamp1", Label: "M"})) // says nothing of the seal, so it stays
	_, err = r.RotateDevice(ctx, "lamp1", 0)
	must(t, err)
	must(t, r.Close())

	r, err = Open(dir, Options{})
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	if form, got := r.Seal("lamp1"); form != seal.Binary || got != key {
		t.Fatalf("after opening again: %v %v", form, got)
	}
	if d, _ := r.Device("lamp1"); d.Seal != seal.Binary || d.SealKey != key.ID() || d.Label != "M" {
		t.Errorf("it shows as %+v", d)
	}
	if _, _, err := r.SetSeal(ctx, "lamp1", seal.None, key); err != nil {
		t.Fatal(err)
	}
	if form, got := r.Seal("lamp1"); form != seal.None || got != (seal.Key{}) {
		t.Errorf("off keeps the key: %v %v", form, got)
	}
	if _, made, err := r.SetSeal(ctx, "lamp1", seal.JWE, key); err != nil || made {
		t.Errorf("a key that was brought: %v", err)
	}
	must(t, r.RemoveDevice(ctx, "lamp1"))
	_, err = r.AddDevice(ctx, Device{ID: "lamp1"})
	must(t, err)
	if form, _ := r.Seal("lamp1"); form != seal.None {
		t.Error("a new device has the seal of the removed one")
	}
	if _, _, err := r.SetSeal(ctx, "nobody", seal.JWE, key); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeUnknownDevice {
		t.Errorf("no device: %v", err)
	}
}
