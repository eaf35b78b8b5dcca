// Package courier brings stored messages to connected devices. Its shards run the state machine of
// package delivery for every subscription against the links that are attached; it is the only place
// where delivery meets I/O and timers.
package courier
