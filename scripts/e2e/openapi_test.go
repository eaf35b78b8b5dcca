package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestOpenAPI has another parser of YAML read what the gateway serves, and follow its references. That the file and
// the routes agree is tested in httpapi.
func TestOpenAPI(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "import yaml").Run(); err != nil {
		cannot(t, "python3-yaml is not installed; scripts/setup does it")
	}
	check := func(text string) string {
		cmd := exec.Command("/usr/bin/python3", "openapi/check.py")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	text := curl(t, "http://"+startGateway(t, "").addr+"/openapi.yaml")
	if out := check(text); out != "" {
		t.Error(out)
	}
	for what, broken := range map[string]string{
		"no YAML":       "a: [b",
		"leads nowhere": strings.Replace(text, `schemas/Glance"`, `schemas/Nothing"`, 1),
		"stands twice":  strings.Replace(text, "\npaths:\n", "\npaths: {}\npaths:\n", 1),
		"placeholders":  strings.Replace(text, "/assets/{file}:", "/assets/{other}:", 1),
	} {
		if out := check(broken); !strings.Contains(out, what) {
			t.Errorf("the check does not notice what it should, %q: %q", what, out)
		}
	}
}
