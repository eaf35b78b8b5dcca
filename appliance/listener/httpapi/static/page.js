"use strict";
const zh = {
  connecting: "正在连接 …", good: "运行中", refusing: "存储拒绝新消息，投递继续", down: "连不上设备",
  open: "访问是开放的：本网络中任何人无需令牌即可发布和订阅。",
  version: "版本", uptime: "已运行", connected: "已连接", published: "已存储", delivered: "已送达", owed: "待投递",
  connect: "接入设备", add: "1. 在网关上添加一个设备，命令会打印它的令牌。",
  listen: "2. 以该设备的身份接收：通过 WebSocket，", poll: "或者只用 curl：取到的消息租用 30 秒。",
  send: "3. 用密钥的令牌给它发消息（edgepost key add app -publish 'device/#'）。", trace: "4. 查看消息在哪里：地址在回答里。",
  units: ["天", "小时", "分", "秒"],
};
const en = { good: "running", refusing: "storage refuses new messages; delivery goes on", down: "the appliance does not answer", units: ["d", "h", "min", "s"] };
const chinese = (navigator.language || "").toLowerCase().startsWith("zh");
const words = chinese ? zh : en;
const at = (id) => document.getElementById(id);

if (chinese) {
  document.documentElement.lang = "zh";
  for (const e of document.querySelectorAll("[data-t]")) if (zh[e.dataset.t]) e.textContent = zh[e.dataset.t];
}

const base = location.origin;
at("poll").textContent = `curl -H 'Authorization: Bearer TOKEN' '${base}/v1/devices/lamp1/messages?wait=30s'\n` +
  `curl -H 'Authorization: Bearer TOKEN' '${base}/v1/devices/lamp1/acks' --json '{"upto":"ID"}'`;
at("send").textContent = `curl -H 'Authorization: Bearer KEY' '${base}/v1/publish/device/lamp1/in/set' --json '{"on":true}'`;
at("trace").textContent = `curl -H 'Authorization: Bearer KEY' '${base}/v1/messages/ID'`;

function span(s) {
  const parts = [[86400, 0], [3600, 1], [60, 2], [1, 3]];
  const i = Math.max(0, parts.findIndex(([n]) => s >= n));
  const first = s < 1 ? 3 : i;
  let text = `${Math.floor(s / parts[first][0])} ${words.units[first]}`;
  const rest = s % parts[first][0];
  if (first < 3) text += ` ${Math.floor(rest / parts[first + 1][0])} ${words.units[first + 1]}`;
  return text;
}

function show(kind, word) {
  at("state").className = kind;
  at("word").textContent = word;
}

async function look() {
  try {
    const answer = await fetch("/glance.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const g = await answer.json();
    at("version").textContent = g.version;
    at("uptime").textContent = span(g.uptime);
    for (const k of ["connected", "published", "delivered", "owed"]) at(k).textContent = g[k].toLocaleString();
    at("open").hidden = !g.anonymous;
    if (g.storage === "ok") show("good", words.good); else show("bad", words.refusing);
  } catch {
    show("bad", words.down);
  }
}

// A page in the background asks nothing.
setInterval(() => { if (!document.hidden) look(); }, 3000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
look();
