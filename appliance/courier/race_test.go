//go:build race

package courier

const raceEnabled = true
