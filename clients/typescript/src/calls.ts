/** What is sent and received, and what a call is made of. */

import type { BatchEndpoint, Endpoint } from "./endpoints.js";
import type { SecretText } from "./secrets.js";

/** A request, ready to be sent. */
export interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
  readonly token: SecretText | undefined;
  /** The time until the response must be complete, in milliseconds. */
  readonly milliseconds: number;
  /** Whether a connection that was used before may be used: the gateway may be about to close it. */
  readonly reuse: boolean;
}

/** A complete response. The names of headers are in lower case. */
export interface Response {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
}

/** What one call gives to its operation. */
export interface Given<Body> {
  readonly path?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: Body;
  readonly etag?: string;
  readonly idempotencyKey?: string | undefined;
}

/** One call of the API. Unlike a request it has no address, credential or deadline. */
export interface Call<Result> {
  readonly endpoint: Endpoint<never, Result>;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
  readonly idempotencyKey: string | undefined;
}

/** Checks what a caller gives, and makes the call of it. Throws `TypeError`. */
export function makeCall<Body, Result>(endpoint: Endpoint<Body, Result>, given: Given<Body>): Call<Result> {
  const { query = {}, body, etag, idempotencyKey } = given;
  if (etag !== undefined && !/^[ -~]+$/.test(etag)) {
    throw new TypeError("an etag has printable ASCII characters only");
  }
  if (idempotencyKey !== undefined && !/^[!-~]{1,255}$/.test(idempotencyKey)) {
    throw new TypeError("an idempotency key has 1 to 255 printable ASCII characters without spaces");
  }
  const present = Object.entries(query).filter(([, value]) => value !== undefined);
  return {
    endpoint,
    path: fill(endpoint.path, given.path ?? {}),
    query: Object.fromEntries(present.map(([name, value]) => [name, String(value)])),
    headers: etag === undefined ? {} : { "If-Match": etag },
    body: endpoint.request && body !== undefined ? Buffer.from(JSON.stringify(endpoint.request.encode(body, ""))) : undefined,
    idempotencyKey,
  };
}

const ITEMS = '{"items":[';

/**
 * The calls of a batch, as few as the API's bounds on items and bytes allow, and the number of items in each.
 *
 * An item that is too large by itself has a request of its own, so that the gateway says so.
 */
export function makeBatch<Item, Result>(endpoint: BatchEndpoint<Item, Result>, items: Iterable<Item>): Part<Result>[] {
  const parts: Part<Result>[] = [];
  let [texts, size]: [string[], number] = [[], 0];
  const finish = () => {
    const body = Buffer.from(`${ITEMS}${texts.join(",")}]}`);
    parts.push({ call: { ...makeCall(endpoint, {}), body }, size: texts.length });
    [texts, size] = [[], 0];
  };
  let index = 0;
  for (const item of items) {
    const text = JSON.stringify(endpoint.item.encode(item, `/items/${index++}`));
    const length = Buffer.byteLength(text);
    if (texts.length > 0 && (texts.length === endpoint.mostItems || size + length > endpoint.mostBytes - ITEMS.length - 2)) {
      finish();
    }
    texts.push(text);
    size += length + 1;
  }
  if (texts.length > 0) {
    finish();
  }
  return parts;
}

/** One request of a batch. */
export interface Part<Result> {
  readonly call: Call<{ readonly items: readonly Result[] }>;
  /** The number of items. */
  readonly size: number;
}

function fill(path: string, names: Readonly<Record<string, string>>): string {
  return path.replace(/\{(\w+)\}/g, (_, parameter: string) => {
    const name = names[parameter];
    if (typeof name !== "string") {
      throw new TypeError(`${parameter} must be text`);
    }
    // Removed from URLs by whoever reads them, so that another object would be meant.
    if (name === "" || name === "." || name === "..") {
      throw new TypeError(`${parameter} is empty or consists of dots`);
    }
    return encodeURIComponent(name);
  });
}
