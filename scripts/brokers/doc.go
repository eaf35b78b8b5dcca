// Package brokers starts real message brokers for tests and benchmarks: as child processes, on free ports of the
// loopback interface, with all their files in one directory, durable as their own documentation advises.
//
//	name             broker                                   protocols of [Broker.Addr]            from
//	kafka            Apache Kafka 4 (KRaft, one node)         kafka, kafka+sasl, kafka+tls, …       Maven
//	artemis          ActiveMQ Artemis 2                       amqp, stomp (one port), +tls, +mtls   Maven
//	activemq         ActiveMQ Classic 6, KahaDB synced        amqp, stomp, +tls                     Maven
//	activemq-debian  ActiveMQ Classic 5                       stomp, tcp (OpenWire)                 Debian
//	rabbitmq         RabbitMQ 3.10                            amqp091, amqp, stomp, +tls, management Debian
//	mosquitto        Mosquitto 2, saved once a second         mqtt, +tls                            Debian
//
// All but Mosquitto and Kafka's first port want [User] and [Password]. scripts/setup gets what they need: jars into
// .cache/brokers, Debian's packages without starting them.
//
// Topics and queues: Kafka makes none by itself. Artemis makes queues on first use except below "strict."; after
// three failed deliveries a message goes to "DLQ" there. ActiveMQ makes them all.
//
// Ports with +tls show the certificate of [Broker.Authority] and want one such as [Broker.Client]'s; Kafka's and
// Artemis' want none, but those with +mtls do. RabbitMQ takes EXTERNAL for a log-in there.
//
// Only the processes started here are ended, each by its own process group, and all of them die with the
// program that started them.
package brokers
