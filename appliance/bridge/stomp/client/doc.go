// Package client speaks STOMP 1.2 (https://stomp.github.io/stomp-specification-1.2.html) as a client does: frames with
// limits on what is read, the log-in, heart-beats. It knows no broker in particular, and nothing of bridges.
package client
