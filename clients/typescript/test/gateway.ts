/** A gateway process on loopback, as in tests/gateway.py. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";

import { Client, type ClientOptions } from "../src/index.js";
import { type Scope, temporaryFolder } from "./folders.js";

// How long a start may take, in milliseconds.
const START = 30_000;

/** `claviger init` and `claviger serve` on a folder of their own. */
export class Gateway {
  address = "";
  readonly tokenFile: string;
  readonly environment: Record<string, string | undefined>;
  #process: ChildProcess | undefined;

  private constructor(
    readonly binary: string,
    folder: string,
    variables: Readonly<Record<string, string>>,
  ) {
    this.tokenFile = path.join(folder, "admin.token");
    this.environment = {
      ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CLAVIGER_"))),
      CLAVIGER_SERVER__LISTEN: "127.0.0.1:0",
      CLAVIGER_STORAGE__DATA_DIR: path.join(folder, "data"),
      CLAVIGER_STORAGE__ROOT_KEY__FILE: path.join(folder, "root.key"),
      CLAVIGER_TELEMETRY__LOG_FORMAT: "json",
      ...variables,
    };
  }

  /** Starts one that ends with the test, or with the file where it is started outside of a test. */
  static async start(test: Scope = { after }, variables: Readonly<Record<string, string>> = {}): Promise<Gateway> {
    const binary = process.env["CLAVIGER_TEST_BINARY"];
    if (!binary) {
      throw new Error("CLAVIGER_TEST_BINARY must name the gateway's binary; tests/run clients sets it");
    }
    const folder = await temporaryFolder(test, async () => gateway.end("SIGTERM"));
    const gateway: Gateway = new Gateway(path.resolve(binary), folder, variables);
    process.once("exit", () => gateway.#process?.kill("SIGKILL"));
    execFileSync(gateway.binary, ["init", "--token-out", gateway.tokenFile], { env: gateway.environment, stdio: ["ignore", "ignore", "inherit"] });
    await gateway.serve();
    return gateway;
  }

  get token(): string {
    return readFileSync(this.tokenFile, "utf8").trim();
  }

  /** A client of its administrator. */
  client(options: Partial<ClientOptions> = {}): Client {
    return new Client({ address: `http://${this.address}`, tokenFile: this.tokenFile, ...options });
  }

  /** Starts the process and waits until it serves. */
  async serve(): Promise<void> {
    const started = spawn(this.binary, ["serve"], { env: this.environment, stdio: ["ignore", "pipe", "pipe"] });
    this.#process = started;
    const log: string[] = [];
    this.address = await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`the gateway does not serve:\n${log.join("\n")}`)), START);
      started.once("exit", (code) => reject(new Error(`the gateway ended with ${code}:\n${log.join("\n")}`)));
      for (const stream of [started.stdout, started.stderr]) {
        createInterface(stream).on("line", (line) => {
          log.push(line);
          const event = line.endsWith("}") ? JSON.parse(line) : {};
          if (event.message === "serving") {
            clearTimeout(late);
            resolve(event.address);
          }
        });
      }
    });
  }

  /** Ends the process, and waits for it. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (running !== undefined && running.exitCode === null && running.signalCode === null) {
      const ended = once(running, "exit");
      running.kill(signal);
      await ended;
    }
  }

  /** A tenant that can work: a connection `embedded` to the embedded provider, and one key. Returns a client of it. */
  async withTenant(name: string, key: string): Promise<Client> {
    await this.client().createTenant(name);
    const client = this.client({ tenant: name });
    await client.createConnection("embedded", "local", {});
    await client.createKey(key, "embedded");
    return client;
  }
}
