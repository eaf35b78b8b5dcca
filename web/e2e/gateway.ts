// The real binary for the tests of the page: a data directory and the process that serves it.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const binary = resolve(process.env.EDGEPOST ?? "../bin/edgepost");
const nowhere = "127.0.0.1:0";

export const person = { name: "admin", password: "correct horse battery" };

export class Gateway {
  readonly dir = mkdtempSync(join(tmpdir(), "edgepost-web-"));
  url = "";
  mqtt = 0;
  private port = 0;
  private process?: ChildProcess;
  private output = "";
  private token = "";

  /** start starts it, on the same ports after a kill, and waits until it answers. */
  async start(...flags: string[]): Promise<void> {
    this.port ||= await freePort();
    this.mqtt ||= await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    const args = [
      "serve",
      "-data",
      this.dir,
      "-http",
      `127.0.0.1:${this.port}`,
      "-mqtt",
      `127.0.0.1:${this.mqtt}`,
      "-https",
      nowhere,
      "-mqtts",
      nowhere,
    ];
    const child = spawn(binary, [...args, ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    this.process = child;
    const note = (b: Buffer) => {
      this.output += b.toString();
    };
    child.stdout.on("data", note);
    child.stderr.on("data", note);
    for (let i = 0; i < 600; i++) {
      if (child.exitCode !== null) break;
      const answer = await fetch(`${this.url}/healthz`).catch(() => undefined);
      if (answer?.ok) return;
      await new Promise((r) => setTimeout(r, 50));
    }
    throw new Error(`edgepost did not start:\n${this.output}`);
  }

  /** The one-time code that the first start printed. */
  get code(): string {
    const found = /set-up code ([A-Z0-9]{4}-[A-Z0-9]{4})/.exec(this.output);
    if (!found) throw new Error(`no set-up code in:\n${this.output}`);
    return found[1]!;
  }

  /** kill is kill -9, and waits for the end. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((r) => child.once("exit", r));
    child.kill(signal);
    await ended;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** cli runs a command on the gateway itself. */
  cli(...args: string[]): string {
    return execFileSync(binary, [...args, "-data", this.dir], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  }

  /** api asks as an administrator's key and throws when it is refused. */
  async api<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    this.token ||= (
      JSON.parse(this.cli("key", "add", "tests", "-admin", "-publish", "#", "-subscribe", "#", "-json")) as {
        token: string;
      }
    ).token;
    const answer = await fetch(this.url + path, {
      method,
      headers: {
        Authorization: `Bearer ${this.token}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  /** addDevice gives the device's token. */
  async addDevice(id: string, fields: object = {}): Promise<string> {
    return (await this.api<{ token: string }>("POST", "/v1/devices", { id, ...fields })).token;
  }

  send(topic: string, data: unknown, headers: Record<string, string> = {}): Promise<{ id: string }> {
    return this.api("POST", `/v1/publish?topic=${encodeURIComponent(topic)}`, JSON.stringify(data), headers);
  }

  /** be is the device over WebSocket until it has acknowledged n messages. */
  be(id: string, token: string, n: number): string {
    return execFileSync(binary, ["listen", "-device", id, "-token", token, "-n", String(n), "-url", this.url], {
      encoding: "utf8",
    });
  }

  /** take acknowledges all that waits for a device, as the device. */
  async take(id: string, token: string): Promise<number> {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const got = (await (await fetch(`${this.url}/v1/devices/${id}/messages`, { headers })).json()) as {
      messages: { id: string }[];
    };
    if (got.messages.length > 0) {
      const body = JSON.stringify({ ids: got.messages.map((m) => m.id) });
      await fetch(`${this.url}/v1/devices/${id}/acks`, { method: "POST", headers, body });
    }
    return got.messages.length;
  }

  /** reject gives up all that waits for a device: it becomes dead letters. */
  async reject(id: string, token: string, reason: string): Promise<void> {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const got = (await (await fetch(`${this.url}/v1/devices/${id}/messages`, { headers })).json()) as {
      messages: { id: string }[];
    };
    const body = JSON.stringify({ nack: got.messages.map((m) => ({ id: m.id, reason, reject: true })) });
    await fetch(`${this.url}/v1/devices/${id}/acks`, { method: "POST", headers, body });
  }
}

export function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const s = createServer();
    s.once("error", fail);
    s.listen(0, "127.0.0.1", () => {
      const { port } = s.address() as { port: number };
      s.close(() => done(port));
    });
  });
}
