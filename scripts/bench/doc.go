// Command bench measures edgepost against what DESIGN §10 promises, and beside peers (NATS 2.15.2,
// Mosquitto, the libraries of the bridges) in the same run. `make bench` builds bin/edgepost and runs it; by hand:
//
//	go run . -binary ../../bin/edgepost [-run REGEXP] [-time 3s] [-quick] [-publishers 1,8,64,256] [-connectors mqtt,kafka,…] [-json FILE] [-dir DIR]
//
// It prints Markdown tables, and with -json writes every figure it took. It asserts nothing: a miss
// is a line to read, never a failed build.
//
// # How to read the figures
//
//   - Server and load share the machine's processors (two, where the README's table was taken), so a
//     rate is a lower bound, and moves by a factor of three when anybody else works there: the load
//     average is printed at the beginning and the end. What counts is the column "ratio": both sides
//     of it were measured within seconds of each other, by the same load, on the same file system. It
//     says how many times better edgepost is; below 1 the peer is.
//   - CPU seconds and resident memory are the server process's own (/proc/PID/stat; VmRSS, and RssAnon for what a connection adds), without
//     the load's share; kernel memory of sockets is in neither. They are far less noisy than rates.
//   - "Device bytes" are what reached the block device (/sys/block/loopN/stat), the file system's
//     journal included: what wears flash. /proc/PID/io hides the journal. They need root, for an ext4
//     on a loop device that the bench makes and removes; elsewhere they are "not measured".
//   - A publish is durable when its answer came after the fsync. NATS does that with sync_interval:
//     always, one fsync a message; "lazy" is its default, which acknowledges from memory and syncs every
//     two minutes. edgepost has no such mode in these rows: each of its figures is after the fsync.
//   - Over MQTT one client of our own loads every server: edgepost, NATS' MQTT and, where Debian's
//     package is installed, Mosquitto, whose limits on what it queues are lifted. Mosquitto and the lazy NATS
//     acknowledge from memory; those rows say so.
//   - "fdatasync of 4 KiB" is the bare limit of the disk for one publisher: an overwrite of zeros that
//     are there already, nothing else.
//   - Each bridge has a real broker of its own (package brokers; one that is not installed is a line that begins with SKIP) and stands
//     beside the library of its connector alone: the same broker, events, window and acknowledgment, in this process. A broker's own rate
//     bounds both, so the ratio may be 1 where the gateway does much more.
//   - "bridges-outage" publishes an hour's messages, 3.6 million, as fast as they go in. With -time of a minute or more it takes that
//     long, at 1,000 a second: -run outage -time 1h.
//   - p50 and p99 are latencies of single calls, to 3 %.
//
// # What runs
//
// Each measured server is a process of its own: bin/edgepost, or this program again as "child NAME",
// which embeds the NATS server or an edgepost appliance. They die with this program; it ends nothing
// else. Everything is under one temporary directory, which is removed, also after Ctrl-C.
package main
