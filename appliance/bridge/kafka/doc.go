// Package kafka is the connector to Apache Kafka 2.8 and newer, and what speaks its protocol: Redpanda, Event Hubs,
// managed services.
//
// # The way out
//
// The producer is idempotent and waits for all in-sync replicas: within one connection nothing comes twice, whatever
// the brokers do. A connection outlives the restart of a broker; it is given up when nothing was confirmed for
// two minutes, or no broker answered for one, and only then what was on its way may come twice, with the same ids. Records have the bridge's key
// (partitions keep its order), and an event's attributes as headers ce_…, as the Kafka binding of CloudEvents says.
// up.to names a topic that exists; slashes in it become dots.
//
// A record that is too large for the topic fails alone, after at most one new connection. What a topic can still lose
// after its acknowledgement: with replication factor 1, or min.insync.replicas 1 and an unclean election, the disk
// cache of one machine.
//
// # The way in
//
// down.from names topics ("ep.down"), or single partitions ("ep.down:3"). They are read as assigned partitions, never
// as a member of a group: gateways that share a topic would share its messages. With option down_key (such as "${gw}")
// only the partition of that key is read, as Kafka's default partitioner chooses it, and only records with that
// key are taken: that is how a fleet shares a topic. How far each partition was read is stored in the
// gateway's log in one frame with the messages: exactly once. Records that are filtered out move it every
// [skipEvery]. The position knows the topic's id: a topic that was deleted and made again is read from its start. All
// addresses of a bridge are one cluster.
//
// Before the first record a bridge stands at the end of each partition, or at its start with option start.
package kafka
