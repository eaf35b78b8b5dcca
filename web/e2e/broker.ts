// A real Mosquitto as an upstream, on a free port, with its files in a directory of its own.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { freePort } from "./gateway";

export class Mosquitto {
  readonly dir = mkdtempSync(join(tmpdir(), "edgepost-web-mosquitto-"));
  port = 0;
  private process?: ChildProcess;

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  /** start starts it, on the same port after a kill, and waits until it takes connections. */
  async start(): Promise<void> {
    if (this.process) return;
    this.port ||= await freePort();
    const file = join(this.dir, "mosquitto.conf");
    // Started as root it would change to its own user, who may not write here.
    const user = userInfo().uid === 0 ? "user root\n" : "";
    writeFileSync(file, `listener ${this.port} 127.0.0.1\nallow_anonymous true\n${user}`);
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
    const child = spawn("mosquitto", ["-c", file], { stdio: "ignore", env });
    const failed = new Promise<never>((_, fail) => {
      child.once("error", (e) => fail(new Error(`mosquitto: ${e.message}; scripts/setup installs it`)));
      child.once("exit", (code) => fail(new Error(`mosquitto ended with ${code}`)));
    });
    failed.catch(() => undefined);
    this.process = child;
    while (!(await Promise.race([open(this.port), failed]))) await new Promise((r) => setTimeout(r, 50));
  }

  /** publish is what somebody at the broker sends. */
  publish(topic: string, body: string): void {
    execFileSync("mosquitto_pub", ["-p", String(this.port), "-h", "127.0.0.1", "-q", "1", "-t", topic, "-m", body]);
  }

  async kill(): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((r) => child.once("exit", r));
    child.kill("SIGKILL");
    await ended;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function open(port: number): Promise<boolean> {
  return new Promise((done) => {
    const s = connect(port, "127.0.0.1");
    s.once("connect", () => done(true));
    s.once("error", () => done(false));
    s.once("close", () => s.destroy());
  });
}
