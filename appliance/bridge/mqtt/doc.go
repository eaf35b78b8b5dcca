// Package mqtt is the connector to MQTT 3.1.1 brokers: Mosquitto, EMQX, HiveMQ, RabbitMQ's and ActiveMQ's MQTT
// ports, cloud brokers.
//
// Messages go out with QoS 1 and are confirmed by the PUBACK. They come in with QoS 1 over a session that the broker
// keeps (clean session false), and are acknowledged after the fsync. A connection is one client of the library and is
// thrown away when it is lost: a client that reconnects by itself completes publishes that nobody acknowledged.
//
// What a broker can still lose after its PUBACK is the broker's: Mosquitto keeps messages in memory and saves them
// every 30 minutes unless autosave_on_changes says otherwise.
//
// MQTT 3.1.1 has no headers, so events go in structured JSON. A broker may acknowledge and drop what is larger than
// its own limit, or end the connection; option max_message makes that an error here.
package mqtt
