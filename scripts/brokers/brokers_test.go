package brokers

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestBrokers starts each broker, kills it, starts it again on the same ports and stops it.
func TestBrokers(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: it starts every broker twice")
	}
	for _, name := range []string{"mosquitto", "rabbitmq", "kafka", "artemis", "activemq", "activemq-debian"} {
		t.Run(name, func(t *testing.T) {
			b, err := New(name, t.TempDir())
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip("SKIP: ", err)
			}
			defer b.Kill()
			for _, end := range []func(){b.Kill, b.Stop} {
				begin := time.Now()
				if err := b.Start(); err != nil {
					t.Fatal(err)
				}
				t.Logf("serves after %v", time.Since(begin).Round(10*time.Millisecond))
				end()
				for protocol, addr := range b.addrs {
					if c, err := net.Dial("tcp", addr); err == nil {
						c.Close()
						t.Errorf("%s is still open", protocol)
					}
				}
			}
		})
	}
	if _, err := New("none", t.TempDir()); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("an unknown broker: %v", err)
	}
}
