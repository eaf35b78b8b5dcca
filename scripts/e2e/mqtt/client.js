// A device with mqtt.js: subscribes, prints each message as a line of JSON, and answers each on its
// response topic, or with an own publish of QoS 2.
//
//   node client.js URL VERSION USER TOKEN CLIENT FILTER COUNT OUT
import mqtt from 'mqtt';

const [url, version, username, password, clientId, filter, count, out] = process.argv.slice(2);
const client = mqtt.connect(url, {
  protocolVersion: Number(version),
  username,
  password,
  clientId,
  clean: false,
  properties: Number(version) === 5 ? {sessionExpiryInterval: 600} : undefined,
  reconnectPeriod: 0,
});
let left = Number(count);
const fail = (err) => {
  console.error(err);
  process.exit(1);
};
client.on('error', fail);
// A backlog that comes in one segment with CONNACK is told as 'message' before 'connect'.
const connected = new Promise((told) => client.once('connect', told));
client.on('connect', async (connack) => {
  console.log(JSON.stringify({present: connack.sessionPresent}));
  if (!connack.sessionPresent) await client.subscribeAsync(filter, {qos: 2}).catch(fail);
});
client.on('message', async (topic, payload, packet) => {
  const {qos, dup, retain, properties} = packet;
  await connected;
  console.log(JSON.stringify({topic, payload: payload.toString(), qos, dup, retain, type: properties?.contentType}));
  await client.publishAsync(properties?.responseTopic ?? out, `got ${payload}`, {qos: 2}).catch(fail);
  if (--left === 0) await client.endAsync();
});
client.on('close', () => process.exit(left === 0 ? 0 : 2));
setTimeout(() => process.exit(3), 60_000).unref();
