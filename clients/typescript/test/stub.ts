/** A server that answers what a test says, byte by byte. */

import net from "node:net";
import type { TestContext } from "node:test";
import tls from "node:tls";

export class StubRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    head: string,
    readonly body: string,
  ) {
    const [line = "", ...lines] = head.split("\r\n");
    [this.method = "", this.target = ""] = line.split(" ");
    this.headers = Object.fromEntries(
      lines.map((text) => [text.slice(0, text.indexOf(":")).toLowerCase(), text.slice(text.indexOf(":") + 1).trim()]),
    );
  }

  get json(): { [name: string]: unknown; items: { wrapped: string }[] } {
    return JSON.parse(this.body);
  }

  get token(): string | undefined {
    return this.headers["authorization"]?.replace(/^Bearer /, "");
  }
}

/** Bytes; null ends the connection without a byte; a function makes it of the request, in parts if it is a generator. */
export type Answer = Buffer | null | ((request: StubRequest) => Buffer | null | Promise<Buffer | null> | AsyncIterable<Buffer>);

/** Answers each request with the next of `answers`, and repeats the last one. Each answer ends its connection. */
export class Stub {
  answers: Answer[] = [];
  readonly requests: StubRequest[] = [];
  connections = 0;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  private constructor(readonly secure: tls.TlsOptions | undefined) {
    const serve = (socket: net.Socket) => void this.#serve(socket);
    this.#server = secure === undefined ? net.createServer(serve) : tls.createServer(secure, serve);
    this.#server.on("connection", (socket: net.Socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
    });
    this.#server.on("tlsClientError", () => undefined);
  }

  /** Starts one that ends with the test. */
  static async start(test: TestContext, secure?: tls.TlsOptions): Promise<Stub> {
    const stub = new Stub(secure);
    await new Promise<void>((resolve) => stub.#server.listen(0, "127.0.0.1", resolve));
    test.after(() => stub.close());
    return stub;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  get address(): string {
    return `${this.secure === undefined ? "http" : "https"}://127.0.0.1:${this.port}`;
  }

  async close(): Promise<void> {
    this.#sockets.forEach((socket) => socket.destroy());
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(socket: net.Socket): Promise<void> {
    // The client may end the connection at any time.
    socket.on("error", () => undefined);
    const request = await this.#read(socket);
    if (request === undefined) {
      return;
    }
    this.requests.push(request);
    const next = this.answers[Math.min(this.requests.length, this.answers.length) - 1] ?? null;
    const made = typeof next === "function" ? next(request) : next;
    if (made !== null && Symbol.asyncIterator in made) {
      for await (const part of made) {
        socket.write(part);
      }
    } else {
      const answer = await made;
      if (answer !== null) {
        socket.write(answer);
      }
    }
    socket.end();
  }

  async #read(socket: net.Socket): Promise<StubRequest | undefined> {
    let received = Buffer.alloc(0);
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      received = Buffer.concat([received, chunk as Buffer]);
      if (received[0] === 0x16) {
        // TLS, without being asked for: answered as web servers do.
        socket.end(answer(400, "plain HTTP only", { kind: "text/plain" }));
        return undefined;
      }
      const end = received.indexOf("\r\n\r\n");
      const head = received.toString("latin1", 0, end);
      if (end >= 0 && received.length - end - 4 >= Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)) {
        return new StubRequest(head, received.toString("utf8", end + 4));
      }
    }
    return undefined;
  }
}

export interface AnswerOptions {
  readonly kind?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Another Content-Length than the true one. */
  readonly length?: number;
}

/** A response. Text is sent as it is, anything else as JSON. */
export function answer(status = 200, body?: unknown, options: AnswerOptions = {}): Buffer {
  const content = Buffer.from(typeof body === "string" ? body : body === undefined ? "" : JSON.stringify(body));
  const lines = [
    `HTTP/1.1 ${status} x`,
    `Content-Type: ${options.kind ?? "application/json"}`,
    `Content-Length: ${options.length ?? content.length}`,
    "Connection: close",
    ...Object.entries(options.headers ?? {}).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), content]);
}

/** A problem document. */
export function problem(code: string, status: number, members: object = {}, headers: Readonly<Record<string, string>> = {}): Buffer {
  const document = { type: `urn:claviger:error:${code}`, title: "Title", status, detail: "Detail.", code, request_id: "0193", retryable: false };
  return answer(status, { ...document, ...members }, { kind: "application/problem+json", headers });
}

export const KEY = {
  allow_export: false, cache: { max_age: "60s" }, connection: "embedded", created: "2026-11-23T15:04:05.000001Z", custody: "provider",
  etag: '"3"', id: "3f6a9d2c5b8e1f40a7d3c6b9e2f5a8d1", labels: { env: "prod" }, managed_by: null, name: "orders", primary_version: 2,
  provider: "local", provider_key: "x", rotation: { state: "idle" }, spec: "aes-256", state: "enabled",
  tenant: "7d865e959b2466918c9863afca942d0f", updated: "2026-11-23T15:04:05Z",
};
export const UNWRAPPED = { plaintext: "c2VjcmV0LWNvbnRlbnQ=", key: "orders", version: 1, cached: false };
export const SECRET = Buffer.from("secret-content");
export const TOKEN = `clv_${"a".repeat(12)}_${"b".repeat(49)}`;
export const OTHER_TOKEN = `clv_${"c".repeat(12)}_${"d".repeat(49)}`;
export const JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
