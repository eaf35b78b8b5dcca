// Package torture takes the disk, the power, the clock and the process away from a running edgepost,
// and holds what publishers and devices know against the promises of its design: what was
// acknowledged is delivered or reported, unaltered and in the promised order, and no trace lies.
//
//   - power cuts on a real file system (power_test.go), kill -9 with large batches (kill_test.go) and
//     before acks are durable (repeat_test.go)
//   - a full disk, on ext4 and on tmpfs (full_test.go); a disk that disappears (removable_test.go)
//   - system calls that fail, one after the other, for ever and for a while (failing_test.go)
//   - clocks that start in 1970 and jump, over reboots (clock_test.go)
//   - generations and snapshots that are damaged, lost, doubled or swapped (damage_test.go), one bit in
//     every frame of the log and of the register's (frame_test.go)
//   - many devices at once, stalled and dead ones (storm_test.go); groups and devices that change during
//     delivery (change_test.go), and rules (rule_test.go)
//   - a data directory that moves to a machine with another byte order (arch_test.go)
//
// `make test` runs each for seconds, `make torture` for minutes or hours. What varies comes from a seed, which is
// printed: SEED and ROUNDS set them, RUN chooses tests. (Threads and processes interleave as they like, so
// a seed repeats what is done, not each moment.) EDGEPOST_TORTURE_BINARY tests that binary instead of building one.
//
// A test that this machine cannot run is skipped and says why; in CI it fails. The tests need root for mounts,
// namespaces and strace, and touch only what they made.
package torture
