// The ten lines of each kind, with this gateway's name where an upstream has a place for it.

const telemetry = `[bridge.up]
filters = ["device/+/out/#"]`;

/** What the protocols are called, in any language. */
export const names: Record<string, string> = {
  mqtt: "MQTT",
  kafka: "Kafka",
  rabbitmq: "RabbitMQ",
  amqp: "AMQP 1.0",
  stomp: "STOMP",
  webhook: "Webhook",
};

/** examples gives, for each kind of upstream, the text of one [[bridge]]. Names of gateways need no escape in TOML. */
export function examples(gw: string): [kind: string, text: string][] {
  return [
    [
      "mqtt",
      `[[bridge]]
name = "central"
kind = "mqtt"
urls = ["mqtt://broker.example"]   # mqtts:// for TLS
${telemetry}
to = "ep/v1/default/\${gw}/up/\${topic}"
[bridge.down]
from = ["ep/v1/default/${gw}/down/#"]
to = "device/\${topic[5]}/in/\${topic[6:]}"
`,
    ],
    [
      "kafka",
      `[[bridge]]
name = "kafka"
kind = "kafka"
urls = ["kafka://kafka.example:9092"]   # kafkas:// for TLS
${telemetry}
to = "ep.up"            # topics that all gateways share
key = "\${gw}"
[bridge.down]
from = ["ep.down"]
[bridge.options]
down_key = "\${gw}"      # of a shared topic only what is for this gateway
`,
    ],
    [
      "rabbitmq",
      `[[bridge]]
name = "rabbit"
kind = "rabbitmq"
urls = ["amqp://rabbit.example"]   # amqps:// for TLS
${telemetry}
to = "ep/up/\${gw}/\${topic}"   # the routing key at amq.topic, with dots
[bridge.down]
from = ["ep.down.${gw}"]
[bridge.options]
queue_type = "quorum"
`,
    ],
    [
      "amqp",
      `[[bridge]]
name = "artemis"
kind = "amqp"             # AMQP 1.0: ActiveMQ, Artemis, RabbitMQ 4
urls = ["amqp://artemis.example"]   # amqps:// for TLS
username = "edge"
password_file = "/etc/edgepost/artemis.password"
${telemetry}
to = "ep.up"
[bridge.down]
from = ["ep.down.${gw}"]
`,
    ],
    [
      "stomp",
      `[[bridge]]
name = "activemq"
kind = "stomp"
urls = ["stomp://activemq.example"]   # stomps:// for TLS
username = "edge"
password_file = "/etc/edgepost/activemq.password"
${telemetry}
to = "/queue/ep.up"
[bridge.down]
from = ["/queue/ep.down.${gw}"]
`,
    ],
    [
      "webhook",
      `[[bridge]]
name = "hook"
kind = "webhook"
urls = ["https://hooks.example/edgepost"]
${telemetry}
[bridge.options]
secret_file = "/etc/edgepost/hook.secret"   # signs requests; leave it out for none
`,
    ],
  ];
}
