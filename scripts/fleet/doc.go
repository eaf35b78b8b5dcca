// Package fleet is the convention by which many gateways share one upstream, as an example that runs: scripts/fleet/run
// starts one Mosquitto and two gateways with gateway.toml and shows what flows. The package has only its test.
//
// # Names
//
// Each gateway has a branch of its own below its tenant, and each thing that flows a place in it. One bridge, that is
// one connection for each gateway, carries all of it.
//
//	ep/v1/{tenant}/{gw}/up/device/{device}/out/…       telemetry, as the device published it
//	ep/v1/{tenant}/{gw}/up/$edge/receipt/bridge/{bridge}/{id}   what became of a command that asked for it
//	ep/v1/{tenant}/{gw}/up/$edge/device/{device}/presence       a device came or went, and why
//	ep/v1/{tenant}/{gw}/down/{device}/…                a command, to device/{device}/in/…
//
// A broker's access rules are one line for each gateway: write ep/v1/{tenant}/{gw}/up/#, read
// ep/v1/{tenant}/{gw}/down/#.
//
// Everything up is a CloudEvent whose (source, id) is stable over resends: whoever consumes it deduplicates by that.
// A command that is a CloudEvent is stored once, however often it is sent with its id; with the attribute epreceipt
// "final" its summary comes up, with event and source as the command had them. Telemetry and these summaries are
// stored and survive any outage. Presence is not stored: what happens while the upstream is away does not come up.
//
// On Kafka the same fleet shares few topics, keyed by gateway: up.to = "ep.up" with up.key = "${gw}"; down.from =
// ["ep.down"] with option down_key = "${gw}". No topic and no partition belongs to a gateway.
//
// # Sizes, on paper
//
// What follows is arithmetic with figures from public documents; nothing of it was measured here.
//
//	gateways          shape
//	1 to 2,000        gateway to Kafka, RabbitMQ or ActiveMQ directly
//	2,000 to 50,000   gateway to a pair of MQTT brokers, these to Kafka
//	1,000,000         gateway to a cluster of MQTT brokers, these to Kafka's ep.up; commands through a router that reads
//	                  ep.down and publishes to each gateway's MQTT topic: a gateway that read a shared Kafka topic would
//	                  read what is for all the others
//
// Why: a Kafka cluster is advised to have at most 4,000 partitions a broker and 200,000 in all (KIP-578), managed
// ones take 2,000 to 4,000 connections a broker; RabbitMQ takes 100 KB of memory or more for each AMQP connection,
// which is 100 GB for a million.
//
// A million gateways with one message of 1 KB a second each: 1 M/s at 150,000/s a Kafka broker are 7 brokers; 1 GB/s
// three times replicated at 375 MB/s a broker are 8; with room for failure 12. If each gateway puts 20 messages
// together the MQTT side sees 50,000 publishes a second. A keep-alive of 240 s is 4,200 pings a second. After an outage
// of the whole upstream, reconnecting with full jitter over 300 s is 3,300 connections a second, at about 1 ms of processor
// for a TLS handshake 3 to 4 cores. A bridge's own waits are drawn from 60 s at most, 30 s on average: up to 33,000 a
// second when the upstream is back, so limit the rate of connections at the brokers. One hour without upstream leaves 3.6 TB in the gateways, 3.6 MB in each.
package fleet
