package pulse

import "time"

// Tick is what the live feed shows of one second, as the feed's JSON. Counters run since the process started; ages and
// durations are seconds, sizes bytes.
type Tick struct {
	Time         time.Time `json:"time"`
	ClockTrusted bool      `json:"clock_trusted"`
	Uptime       float64   `json:"uptime"`
	Rates        Rates     `json:"rates"`
	Totals       Totals    `json:"totals"`
	Ack          Ack       `json:"ack"`
	Owed         int64     `json:"owed"`
	OldestAge    float64   `json:"oldest_age"`
	Devices      Devices   `json:"devices"`
	DeadLetters  int64     `json:"dead_letters"`
	Connections  int64     `json:"connections"`
	Backlog      []Backlog `json:"backlog"`
	Storage      Storage   `json:"storage"`
	CPU          CPU       `json:"cpu"`
	Memory       Memory    `json:"memory"`
	Tune         Tune      `json:"tune"`
	Bridges      []Bridge  `json:"bridges"`
	Anonymous    bool      `json:"anonymous"`
	Warnings     []string  `json:"warnings"`
}

// Rates are per second, over the last one.
type Rates struct {
	In        float64 `json:"in"`  // published, stored or volatile
	Out       float64 `json:"out"` // transmissions
	Delivered float64 `json:"delivered"`
}

// Totals count messages and the ends of debts.
type Totals struct {
	Published int64 `json:"published"`
	Volatile  int64 `json:"volatile"`
	Sent      int64 `json:"sent"`
	Delivered int64 `json:"delivered"`
	Expired   int64 `json:"expired"`
	Dead      int64 `json:"dead"`
	Cancelled int64 `json:"cancelled"`
	Lost      int64 `json:"lost"`
	Dropped   int64 `json:"dropped"`
}

// Ack is how long a publish took from its receipt to the durable answer, over the last ten seconds; 0 when there was none.
type Ack struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Devices counts the registered ones.
type Devices struct {
	Total  int64 `json:"total"`
	Online int64 `json:"online"`
}

// Backlog is a subscription that owes something.
type Backlog struct {
	Name      string  `json:"name"`
	Kind      string  `json:"kind"`
	Owed      int64   `json:"owed"`
	OldestAge float64 `json:"oldest_age"`
}

// Storage is the log on the flash.
type Storage struct {
	State        string   `json:"state"` // "ok", or why publishers are refused
	LogBytes     int64    `json:"log_bytes"`
	LogLimit     int64    `json:"log_limit"`
	DiskFree     int64    `json:"disk_free"`
	DeviceBytes  int64    `json:"device_bytes"`  // written to the flash since the start
	PayloadBytes int64    `json:"payload_bytes"` // of the messages stored since the start
	FlashYears   *float64 `json:"flash_years"`   // see [FlashYears]
}

// CPU is what the process uses of its processors together, over the last second.
type CPU struct {
	Percent float64 `json:"percent"` // of all cores together
	Cores   int     `json:"cores"`
}

// Memory is what the process has in RAM, and the limit it was given.
type Memory struct {
	RSS    int64 `json:"rss"`
	Budget int64 `json:"budget"`
}

// Tune says what the appliance allows itself on this machine.
type Tune struct {
	Why []Reason `json:"why"`
}

// Reason says why a limit is what it is.
type Reason struct {
	Limit string `json:"limit"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Bridge is one upstream link.
type Bridge struct {
	Name      string  `json:"name"`
	Kind      string  `json:"kind"`
	State     string  `json:"state"`
	Owed      int64   `json:"owed"`
	OldestAge float64 `json:"oldest_age"`
	Error     string  `json:"error"`
}

// What [FlashYears] assumes of the flash: cheap three-level cells, and a controller that writes as much again for itself.
const (
	eraseCycles    = 1000
	controllerLoss = 2
	maxYears       = 100 // beyond it, something else breaks first
	observed       = 10 * time.Minute
)

// FlashYears estimates how long a flash of that size lasts if the process goes on writing as it did since it started: nil
// before it has been observed for ten minutes, or when nothing is known about the disk.
func FlashYears(total, written int64, uptime time.Duration) *float64 {
	if uptime < observed || total <= 0 || written <= 0 {
		return nil
	}
	const year = 365.25 * 24 * float64(time.Hour)
	y := min(float64(total)*eraseCycles/controllerLoss/float64(written)*float64(uptime)/year, maxYears)
	return &y
}
