// What a person pastes to be a device, filled in. Pure.

export interface Target {
  host: string; // name or address of the gateway
  http: string; // host:port of plain HTTP
  mqtt: number; // port
  id: string;
  token: string;
  topic: string;
}

export interface Snippet {
  id: string;
  name: string;
  text: string;
}

export function snippets(s: Target): Snippet[] {
  const hello = '{"hello":"edgepost"}';
  return [
    {
      id: "mosquitto",
      name: "mosquitto_pub",
      text: `mosquitto_pub -h ${s.host} -p ${s.mqtt} -u ${s.id} -P '${s.token}' \\
  -q 1 -t ${s.topic} -m '${hello}'`,
    },
    {
      id: "curl",
      name: "curl",
      text: `curl -H 'Authorization: Bearer ${s.token}' \\
  -H 'Content-Type: application/json' -d '${hello}' \\
  'http://${s.http}/v1/publish/${s.topic}'`,
    },
    {
      id: "browser",
      name: "JavaScript",
      text: `const ws = new WebSocket('ws://${s.http}/v1/ws');
ws.onopen = () => {
  ws.send(JSON.stringify({ id: 1, hello: { device: '${s.id}', token: '${s.token}' } }));
  ws.send(JSON.stringify({ id: 2, pub: { topic: '${s.topic}', data: { hello: 'edgepost' } } }));
};
ws.onmessage = (e) => e.data.split('\\n').map((line) => JSON.parse(line)).forEach(({ msg }) => {
  if (!msg) return;
  console.log(msg.topic, msg.data ?? msg.text);
  ws.send(JSON.stringify({ ack: { sub: msg.sub, upto: msg.seq } }));
});`,
    },
    {
      id: "python",
      name: "Python",
      text: `import paho.mqtt.client as mqtt          # pip install paho-mqtt
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
c.username_pw_set("${s.id}", "${s.token}")
c.on_message = lambda c, _, m: print(m.topic, m.payload)
c.connect("${s.host}", ${s.mqtt})
c.subscribe("device/${s.id}/in/#", qos=1)
c.publish("${s.topic}", '${hello}', qos=1)
c.loop_forever()`,
    },
    {
      id: "arduino",
      name: "Arduino",
      text: `// PubSubClient; after the Wi-Fi is up
client.setServer("${s.host}", ${s.mqtt});
client.connect("${s.id}", "${s.id}", "${s.token}");
client.subscribe("device/${s.id}/in/#", 1);
client.publish("${s.topic}", "{\\"hello\\":\\"edgepost\\"}");`,
    },
    {
      id: "micropython",
      name: "MicroPython",
      text: `from umqtt.simple import MQTTClient
c = MQTTClient("${s.id}", "${s.host}", port=${s.mqtt}, user="${s.id}", password="${s.token}")
c.set_callback(lambda topic, msg: print(topic, msg))
c.connect()
c.subscribe(b"device/${s.id}/in/#", qos=1)
c.publish(b"${s.topic}", b'${hello}', qos=1)
while True:
    c.wait_msg()`,
    },
  ];
}

/** Where devices reach the gateway that served this page, by its configuration where that is known. */
export function hosts(
  l: Pick<Location, "protocol" | "hostname" | "host">,
  settings: { key: string; value: unknown }[] = [],
): Pick<Target, "host" | "http" | "mqtt"> {
  const port = (key: string, otherwise: number) => {
    const found = settings.find((s) => s.key === key)?.value;
    return Number(/:(\d+)$/.exec(String(found))?.[1]) || otherwise;
  };
  const http = l.protocol === "http:" ? l.host : `${l.hostname}:${port("http.addr", 8088)}`;
  return { host: l.hostname, http, mqtt: port("mqtt.addr", 1883) };
}
