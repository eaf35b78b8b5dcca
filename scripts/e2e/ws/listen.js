// A device in JavaScript: connects, receives as many messages as asked for, acknowledges each, and
// prints it as one line of JSON.
//
//   node listen.js ws://HOST:PORT/v1/ws DEVICE TOKEN COUNT
import WebSocket from 'ws';

const [url, device, token, count] = process.argv.slice(2);
const ws = new WebSocket(url, 'edgepost.v1.json');
let left = Number(count);

ws.on('open', () => ws.send(JSON.stringify({id: 1, hello: {device, token}})));
ws.on('message', (data) => {
  for (const line of data.toString().split('\n')) {
    const {welcome, msg, error} = JSON.parse(line);
    if (error) {
      console.error(error.code, error.detail);
      process.exit(1);
    }
    if (welcome) console.log(JSON.stringify({welcome, protocol: ws.protocol}));
    if (msg) {
      console.log(JSON.stringify(msg));
      ws.send(JSON.stringify({ack: {sub: msg.sub, upto: msg.seq}}));
      if (--left === 0) ws.close(1000);
    }
  }
});
ws.on('close', (code) => process.exit(left === 0 && code === 1000 ? 0 : 2));
ws.on('error', (err) => console.error(err.message));
setTimeout(() => process.exit(3), 30_000).unref();
