package fleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun runs the example as a person would. It ends with an error by itself when something does not flow.
func TestRun(t *testing.T) {
	for _, need := range []string{"mosquitto", "mosquitto_sub", "mosquitto_pub", "bash"} {
		if _, err := exec.LookPath(need); err != nil {
			if _, err := os.Stat("/usr/sbin/" + need); err == nil {
				continue
			}
			if os.Getenv("CI") == "true" {
				t.Fatalf("cannot run in CI: %v", err)
			}
			t.Skipf("SKIP: %v; scripts/setup installs it", err)
		}
	}
	program := filepath.Join(t.TempDir(), "edgepost")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build edgepost: %v\n%s", err, text)
	}
	cmd := exec.CommandContext(t.Context(), "./run")
	files := t.TempDir()
	cmd.Env = append(os.Environ(), "EDGEPOST="+program, "TMPDIR="+files)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"ep/v1/acme/north/up/device/lamp/out/lux", "ep/v1/acme/south/up/device/lamp/out/lux", `"source":"/edgepost/south"`,
		`"event":"command-1","source":"/middle"`, `"data":{"lux":33}`, "The lamp of south got nothing",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the output has no %s:\n%s", want, text)
		}
	}
	if left, err := os.ReadDir(files); err != nil || len(left) > 0 {
		t.Errorf("the example left %v behind, %v", left, err)
	}
}
