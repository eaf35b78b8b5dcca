package mqtt

import (
	"math"
	"strconv"
	"sync"
	"time"

	"edgepost/appliance/message"
)

// Census counts what the appliance keeps for MQTT clients, whether they are connected or not.
type Census struct {
	Away     int64 // sessions that nobody is connected to, and that have not expired
	Shared   int64 // shared subscriptions
	Retained int64 // retained messages
	Owed     int64 // messages owed to subscriptions, each counted for each
}

// loads are moving averages per minute, over one, five and fifteen minutes, under the names that Mosquitto
// gave them. They are brought forward when somebody reads them: exact when that is every few seconds, and at
// the first reading what the average was since the start.
type loads struct {
	mu   sync.Mutex
	at   time.Duration // of the newest sample, since the server's start
	last [loadKinds]int64
	avg  averages
}

const (
	loadKinds = 9
	loadSpans = 3
	loadEvery = time.Second // samples closer together say nothing new
)

// averages are per kind, as loadNames has them, and per span.
type averages [loadKinds][loadSpans]float64

func spans() [loadSpans]time.Duration {
	return [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}
}

func loadNames() [loadKinds]string {
	return [...]string{
		"messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped", "bytes/received", "bytes/sent",
		"sockets", "connections",
	}
}

func (st *Stats) loads() [loadKinds]int64 {
	return [loadKinds]int64{
		st.PacketsIn, st.PacketsOut, st.PublishesIn, st.PublishesOut, st.Dropped, st.BytesIn, st.BytesOut, st.Accepted, st.Welcomed,
	}
}

// sample brings the averages forward to now and returns them.
func (l *loads) sample(now time.Duration, st *Stats) averages {
	l.mu.Lock()
	defer l.mu.Unlock()
	passed := now - l.at
	if passed < loadEvery {
		return l.avg
	}
	values := st.loads()
	for i, v := range values {
		rate := float64(v-l.last[i]) / passed.Minutes()
		for j, span := range spans() {
			l.avg[i][j] = rate + math.Exp(-float64(passed)/float64(span))*(l.avg[i][j]-rate)
		}
	}
	l.at, l.last = now, values
	return l.avg
}

// yieldLoads hands on the load topics.
func yieldLoads(avg *averages, yield func(message.Topic, string) bool) {
	for i, name := range loadNames() {
		for j, span := range spans() {
			topic := message.Topic("$SYS/broker/load/" + name + "/" + strconv.Itoa(int(span.Minutes())) + "min")
			if !yield(topic, strconv.FormatFloat(avg[i][j], 'f', 2, 64)) {
				return
			}
		}
	}
}
