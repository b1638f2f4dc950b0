/**
 * Sends requests with node:http and node:https.
 *
 * Node's `fetch` takes no certificate authority without another package, follows redirects, and takes the proxy of the
 * environment where Node is told so. These modules do none of that.
 */

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { setTimeout as wait } from "node:timers/promises";
import { type SecureContext, TLSSocket } from "node:tls";
import { fileURLToPath } from "node:url";

import type { Request, Response } from "./calls.js";
import type { World } from "./core.js";
import {
  type ClavigerError,
  ConnectionLostError,
  DeadlineExceededError,
  GatewayUnreachableError,
  TruncatedResponseError,
  UnexpectedResponseError,
  UntrustedCertificateError,
} from "./errors.js";
import { systemReason } from "./system.js";

/** As much as the largest batch, in plain and wrapped, can return, and more. */
export const MOST_RESPONSE = 64 << 20;
// For the connection and its TLS handshake, in milliseconds.
const CONNECT = 5000;
// The requests under way at once; others wait for their turn.
const MOST_SOCKETS = 100;

/** The authorities to trust: a file with certificates in PEM, or a context of node:tls. */
export type Authority = string | URL | SecureContext;

/** How far an exchange came when it failed. */
enum Stage {
  /** All connections are in use. */
  Waiting,
  Connecting,
  Sending,
  Receiving,
}

/** A response is longer than any of the API. */
class TooLarge extends Error {}
/** The deadline passed, or the connection took too long. */
class Overdue extends Error {}

/** Sends requests to one gateway, over connections that it keeps. */
export class Transport implements World {
  readonly #host: string;
  readonly #kept: http.Agent;
  readonly #fresh: http.Agent;
  readonly #request: typeof http.request;
  readonly #mostResponse: number;

  constructor(address: URL, ca: Authority | undefined, mostResponse = MOST_RESPONSE) {
    const secure = address.protocol === "https:";
    // Even where the environment says otherwise: tokens and data keys pass.
    const options = { ...(secure && authorities(ca)), rejectUnauthorized: true };
    const Agent = secure ? https.Agent : http.Agent;
    this.#host = address.host;
    this.#kept = new Agent({ ...options, keepAlive: true, maxSockets: MOST_SOCKETS });
    this.#fresh = new Agent({ ...options, keepAlive: false, maxSockets: MOST_SOCKETS });
    this.#request = secure ? https.request : http.request;
    this.#mostResponse = mostResponse;
  }

  now(): number {
    return performance.now();
  }

  jitter(longest: number): number {
    return Math.random() * longest;
  }

  async sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
    try {
      await wait(milliseconds, undefined, { signal });
    } catch (error) {
      throw signal?.reason ?? error;
    }
  }

  /** Ends the connections. */
  close(): void {
    this.#kept.destroy();
    this.#fresh.destroy();
  }

  async send(request: Request, signal: AbortSignal | undefined): Promise<Response> {
    // A signal that is aborted already sends no event.
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      let stage = Stage.Waiting;
      let socket: Socket | undefined;
      const headers: Record<string, string | number> = { ...request.headers };
      if (request.token !== undefined) {
        headers["Authorization"] = `Bearer ${request.token.expose()}`;
      }
      if (request.body !== undefined) {
        headers["Content-Length"] = request.body.length;
      }
      const outgoing = this.#request(request.url, { method: request.method, headers, agent: request.reuse ? this.#kept : this.#fresh });
      const end = (settle: () => void) => {
        clearTimeout(deadline);
        clearTimeout(connecting);
        signal?.removeEventListener("abort", abort);
        settle();
      };
      const fail = (error: unknown) => {
        end(() => reject(this.#meaning(error, stage, socket)));
        outgoing.destroy();
      };
      const abort = () => {
        end(() => reject(signal?.reason));
        outgoing.destroy();
      };
      const deadline = setTimeout(() => fail(new Overdue()), request.milliseconds);
      let connecting: NodeJS.Timeout | undefined;
      signal?.addEventListener("abort", abort);

      outgoing.on("error", fail);
      outgoing.on("socket", (found) => {
        socket = found;
        stage = Stage.Connecting;
        const connected = () => {
          clearTimeout(connecting);
          stage = Stage.Sending;
        };
        if (outgoing.reusedSocket) {
          connected();
        } else {
          connecting = setTimeout(() => fail(new Overdue()), CONNECT);
          found.once(found instanceof TLSSocket ? "secureConnect" : "connect", connected);
        }
      });
      outgoing.on("response", (incoming) => {
        stage = Stage.Receiving;
        const chunks: Buffer[] = [];
        let size = 0;
        incoming.on("data", (chunk: Buffer) => {
          size += chunk.length;
          chunks.push(chunk);
          if (size > this.#mostResponse) {
            fail(new TooLarge());
          }
        });
        incoming.on("error", fail);
        incoming.on("end", () => {
          const values = Object.entries(incoming.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : value]);
          end(() => resolve({ status: incoming.statusCode ?? 0, headers: Object.fromEntries(values), body: Buffer.concat(chunks) }));
        });
      });
      outgoing.end(request.body);
    });
  }

  /** The error of the client for one of Node, whose own text could contain what was sent. */
  #meaning(error: unknown, stage: Stage, socket: Socket | undefined): ClavigerError {
    const host = this.#host;
    const overdue = error instanceof Overdue;
    if (error instanceof TooLarge) {
      return new UnexpectedResponseError(`The response of ${host} is larger than any of a Claviger gateway.`, {
        code: "unexpected_response",
        title: "Unexpected response",
        whatToDo: "Check the address, and what is between the client and the gateway.",
        maybeExecuted: true,
      });
    }
    const distrust = socket instanceof TLSSocket && !overdue ? socket.authorizationError : undefined;
    if (distrust) {
      const reason = certificateReason(error) ?? String(distrust);
      return new UntrustedCertificateError(`The certificate of ${host} is not trusted: ${reason}.`, {
        code: "certificate_untrusted",
        title: "Certificate not trusted",
        whatToDo: "Give the file with the authority that signed it as ca, and use a name in the address that is in the certificate.",
      });
    }
    if (stage === Stage.Waiting || stage === Stage.Connecting) {
      const busy = overdue && stage === Stage.Waiting;
      const tls = !overdue && /^(EPROTO|ERR_SSL_|ERR_TLS_)/.test(codeOf(error));
      let advice = "Check the address, and that the gateway runs and can be reached from here.";
      if (busy) {
        advice = "Make fewer calls at once with one client, or allow more time.";
      } else if (tls) {
        advice = "Check that the address has the right scheme (http or https) and port.";
      }
      const reason = busy ? "all connections of the client are in use" : overdue ? "it took too long" : systemReason(error);
      return new GatewayUnreachableError(`No connection to ${host}: ${reason}.`, {
        code: "gateway_unreachable",
        title: "Gateway unreachable",
        whatToDo: advice,
        isRetryable: !tls,
      });
    }
    if (overdue) {
      return new DeadlineExceededError(`${host} did not answer within the deadline.`, {
        code: "deadline_exceeded",
        title: "Deadline exceeded",
        whatToDo: "Allow more time, or check what the gateway waits for (/readyz, and the log of the gateway).",
        isRetryable: true,
        maybeExecuted: true,
      });
    }
    if (stage === Stage.Receiving) {
      return new TruncatedResponseError(`The response of ${host} ended too early: ${systemReason(error)}.`, {
        code: "response_truncated",
        title: "Response truncated",
        whatToDo: "Repeat the call. If it happens again, check what is between the client and the gateway.",
        isRetryable: true,
        maybeExecuted: true,
      });
    }
    if (codeOf(error).startsWith("HPE_")) {
      return new UnexpectedResponseError(`${host} does not speak HTTP.`, {
        code: "unexpected_response",
        title: "Unexpected response",
        whatToDo: "Check that the address has the right scheme (http or https) and port.",
        maybeExecuted: true,
      });
    }
    return new ConnectionLostError(`The connection to ${host} ended before the response: ${systemReason(error)}.`, {
      code: "connection_lost",
      title: "Connection lost",
      whatToDo:
        "Repeat the call if that is safe. If it happens again, check that the gateway runs, that the address has the right scheme " +
        "(http or https), and what is between.",
      isRetryable: true,
      maybeExecuted: true,
    });
  }
}

/** Checks the form of an address. */
export function checkAddress(address: string | URL, allowPlainHttp: boolean): URL {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw new TypeError("the address is no URL");
  }
  if ((url.protocol !== "http:" && url.protocol !== "https:") || url.hostname === "") {
    throw new TypeError("the address must begin with https:// (or http://) and a host");
  }
  if (url.username || url.password || url.search || url.hash || url.port === "0") {
    throw new TypeError("the address may have only a scheme, a host, a port and a path");
  }
  if (url.protocol === "http:" && !allowPlainHttp && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)) {
    throw new TypeError("a token is sent to another host only over https (or with allowPlainHttp: true)");
  }
  return url;
}

function authorities(ca: Authority | undefined): https.AgentOptions {
  if (ca === undefined) {
    return {};
  }
  if (typeof ca !== "string" && !(ca instanceof URL)) {
    return { secureContext: ca };
  }
  const path = typeof ca === "string" ? ca : fileURLToPath(ca);
  try {
    const pem = readFileSync(path);
    new X509Certificate(pem);
    return { ca: pem };
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    throw new TypeError(`ca: ${path} is no file with PEM certificates${errno === undefined ? "" : ` (${systemReason(error)})`}`);
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "";
}

/** OpenSSL's or Node's words for what is wrong with a certificate. */
function certificateReason(error: unknown): string | undefined {
  return error instanceof Error ? error.message.replace(/\.$/, "") : undefined;
}
