// Package e2e tests the built binary from outside, as a person or a device meets it: started and
// killed as a process, reached by curl, by a WebSocket client in Go and one in JavaScript, and by
// its own command line. What the tests claim:
//
//   - the lines that `edgepost serve` prints work when they are pasted (lines_test.go)
//   - kill -9 at any moment loses nothing that was acknowledged, keeps the order of first
//     transmissions, flags what comes twice, and no trace lies (kill_test.go)
//   - a backlog waits for an offline device through a crash (backlog_test.go)
//   - bad input is refused over every interface, with the same code, and hurts nobody else
//     (bad_*_test.go)
//   - sealed payloads open with other implementations, and theirs with ours, over every protocol
//     (seal_test.go)
//   - the description of the HTTP interface is YAML in which every reference leads somewhere (openapi_test.go)
//   - dead letters, requeue, history, replayed answers, expiry, priority, delay and cancel do what
//     the API says (life_test.go)
//
// The tests end only the processes that they started. EDGEPOST_E2E_ROUNDS sets the rounds of
// kill -9 (default 20); EDGEPOST_E2E_BINARY tests that binary instead of building one.
package e2e
