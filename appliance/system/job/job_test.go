package job

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
)

func code(err error) string {
	if p := message.ProblemOf(err); p != nil {
		return p.Code
	}
	return ""
}

// steps does one step a second.
func steps(n int) func(context.Context, Progress) error {
	return func(ctx context.Context, p Progress) error {
		for i := range n {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			if i%2 == 1 {
				p.Step(errors.New("odd"))
			} else {
				p.Step(nil)
			}
		}
		return nil
	}
}

func TestJobRunsToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Runner
		j, err := r.Start("count", 5, steps(5))
		if err != nil || j.State != Running || j.Total != 5 || j.What != "count" {
			t.Fatalf("%+v, %v", j, err)
		}
		time.Sleep(2500 * time.Millisecond)
		if got, _ := r.Get(j.ID); got.State != Running || got.Done != 1 || got.Failed != 1 || got.Error != "odd" {
			t.Errorf("under way: %+v", got)
		}
		time.Sleep(3 * time.Second)
		got, _ := r.Get(j.ID)
		if got.State != Done || got.Done != 3 || got.Failed != 2 || got.Ended.Sub(got.Began) != 5*time.Second {
			t.Errorf("at the end: %+v", got)
		}
		if again, err := r.Stop(j.ID); err != nil || again != got {
			t.Errorf("stopped afterwards: %+v, %v", again, err)
		}
		if _, err := r.Get("nothing"); code(err) != message.CodeNotFound {
			t.Error(err)
		}
		if _, err := r.Stop("nothing"); code(err) != message.CodeNotFound {
			t.Error(err)
		}
	})
}

func TestJobIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Runner
		j, _ := r.Start("count", 100, steps(100))
		time.Sleep(1500 * time.Millisecond)
		if got, err := r.Stop(j.ID); err != nil || got.State != Stopped || got.Done != 1 || got.Ended.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
		f, _ := r.Start("fail", 1, func(context.Context, Progress) error { return errors.New("disk") })
		synctest.Wait()
		if got, _ := r.Get(f.ID); got.State != Failed || got.Error != "disk" {
			t.Errorf("%+v", got)
		}
	})
}

func TestJobsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Runner
		for range 2 * MaxKept {
			if _, err := r.Start("short", 0, steps(0)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range MaxRunning {
			if _, err := r.Start("long", 9, steps(9)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Start("one more", 1, steps(1)); code(err) != message.CodeTooMany {
			t.Error(err)
		}
		if n := len(r.List()); n != MaxKept {
			t.Errorf("%d are kept", n)
		}
		r.Close()
		for _, j := range r.List() {
			if j.State == Running {
				t.Errorf("after the end: %+v", j)
			}
		}
		if _, err := r.Start("late", 1, steps(1)); code(err) != message.CodeUnavailable {
			t.Error(err)
		}
	})
}
