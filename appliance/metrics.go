package appliance

import (
	"fmt"
	"io"

	"edgepost/appliance/courier"
)

// writeMetrics writes the status as Prometheus text (exposition format 0.0.4).
func writeMetrics(w io.Writer, st *courier.Status) {
	for _, m := range [...]struct {
		name, kind, help string
		value            int64
	}{
		{"edgepost_published_total", "counter", "Messages stored.", st.Published},
		{"edgepost_volatile_total", "counter", "Messages delivered without storing.", st.Volatile},
		{"edgepost_sent_total", "counter", "Transmissions to links.", st.Sent},
		{"edgepost_delivered_total", "counter", "Messages acknowledged by their receiver.", st.Delivered},
		{"edgepost_expired_total", "counter", "Debts that outlived their time to live.", st.Expired},
		{"edgepost_dead_total", "counter", "Debts given up.", st.Dead},
		{"edgepost_cancelled_total", "counter", "Debts withdrawn.", st.Cancelled},
		{"edgepost_lost_total", "counter", "Debts whose record the disk lost.", st.Lost},
		{"edgepost_dropped_total", "counter", "Volatile messages that a full session did not take.", st.Dropped},
		{"edgepost_commits_total", "counter", "Commits of the log, one fsync each.", st.Commits},
		{"edgepost_owed", "gauge", "Messages owed by all subscriptions together.", st.Owed},
		{"edgepost_subscriptions", "gauge", "Subscriptions.", st.Subscriptions},
		{"edgepost_links", "gauge", "Links attached to a subscription.", st.Connected},
		{"edgepost_dead_letters", "gauge", "Dead letters kept.", st.DeadLetters},
		{"edgepost_log_bytes", "gauge", "Bytes of the log on disk.", st.LogBytes},
		{"edgepost_log_limit_bytes", "gauge", "Budget of the log.", st.LogLimit},
		{"edgepost_log_plain_bytes", "gauge", "Bytes of an encrypted gateway's log and register that are not encrypted.", st.LogPlain},
		{"edgepost_head", "counter", "Last durable sequence number.", int64(st.Head)},
		{"edgepost_uptime_seconds", "gauge", "Since the process started.", int64(st.Uptime.Seconds())},
		{"edgepost_storage_ok", "gauge", "1 while messages are taken.", flag(st.Storage == "ok")},
		{"edgepost_clock_trusted", "gauge", "1 while the wall clock is trusted.", flag(st.ClockTrusted)},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %d\n", m.name, m.help, m.name, m.kind, m.name, m.value)
	}
	fmt.Fprintf(w, "# HELP edgepost_info Version and epoch.\n# TYPE edgepost_info gauge\nedgepost_info{version=%q,epoch=%q} 1\n", st.Version, st.Epoch)
}

func flag(on bool) int64 {
	if on {
		return 1
	}
	return 0
}
