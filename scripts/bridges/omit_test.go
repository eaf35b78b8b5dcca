package bridges

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program without a connector says so: of the configuration file with the line, and of a bridge that was made over the
// API on the bridge, which keeps what it owes until a program that has it runs again.
func TestOmitted(t *testing.T) {
	t.Parallel()
	kinds := map[string]string{
		"mqtt": "mqtt://127.0.0.1:1", "kafka": "kafka://127.0.0.1:1", "amqp": "amqp://127.0.0.1:1", "rabbitmq": "amqp://127.0.0.1:1", "stomp": "stomp://127.0.0.1:1", "webhook": "http://127.0.0.1:1/x",
	}
	g := newGateway(t, "")
	g.start()
	key := g.must("key", "add", "root", "-admin")
	var tags []string
	for kind, url := range kinds {
		tags = append(tags, "omit_"+kind)
		body, err := json.Marshal(map[string]any{"kind": kind, "urls": []string{url}, "up": map[string]any{"filters": []string{"out/x"}, "to": "up"}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+g.addr+"/v1/bridges/"+kind, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", "application/json")
		res, err := g.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %s", kind, res.Status)
		}
	}
	g.say("out/x", "owed")
	g.stop()

	small := filepath.Join(t.TempDir(), "edgepost")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", strings.Join(tags, ","), "-o", small, "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, text)
	}
	g.program = small
	g.start()
	for kind := range kinds {
		words := fmt.Sprintf("the connector %s is not compiled into this program (it was built with omit_%s)", kind, kind)
		if s := g.show(kind); s.State != "orphaned" || !strings.Contains(s.Error, words) || s.Owed != 1 {
			t.Errorf("made over the API: %+v; want %q", s, words)
		}
		file := filepath.Join(t.TempDir(), "edgepost.toml")
		text := single{name: "up", kind: kind, url: kinds[kind], to: "up"}.config()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(small, "serve", "-data", t.TempDir(), "-config", file).CombinedOutput()
		if err == nil || !strings.Contains(string(out), file+":3: bridge[0].kind: "+words) {
			t.Errorf("in the file: %v: %s", err, out)
		}
	}
	g.stop()
	g.program = program
	g.start()
	for kind := range kinds {
		if s := g.show(kind); s.State == "orphaned" || s.Owed != 1 {
			t.Errorf("with it again: %s: %+v", kind, s)
		}
	}
}
