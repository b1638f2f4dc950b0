/** How a call is carried out: credential, deadline, retries, and what its response means. Without I/O of its own. */

import { randomUUID } from "node:crypto";
import { debuglog } from "node:util";

import type { Call, Part, Request, Response } from "./calls.js";
import { type Meta, Mismatch, type Model, nothing, plain } from "./codec.js";
import { ClavigerError, DeadlineExceededError, TokenError, TransportError, UnexpectedResponseError, problemError } from "./errors.js";
import type { SecretText } from "./secrets.js";
import type { TokenSource } from "./tokens.js";

/** The shortest and the longest deadline that the API takes, in milliseconds. */
export const SHORTEST = 100;
export const LONGEST = 9_999_000;
// Pauses before retries, in milliseconds.
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 8000;
// What the API asks for where a retryable problem has no Retry-After.
const PAUSE_AFTER_PROBLEM = 1000;
// A token file that is being replaced is whole again long before this.
const TOKEN_ATTEMPTS = 10;
const TOKEN_PAUSE = 50;
// Statuses of a proxy whose gateway is away.
const GATEWAY_AWAY: readonly number[] = [502, 503, 504];

const log = debuglog("claviger");

/** The settings of a client. */
export interface Settings {
  readonly address: string;
  readonly tokens: TokenSource;
  readonly headers: Readonly<Record<string, string>>;
  /** Of each call with all its retries, in milliseconds. */
  readonly timeout: number;
  readonly retries: number;
}

/** What a call uses of the world. */
export interface World {
  /** Throws a `ClavigerError`, or the reason of the signal. */
  send(request: Request, signal: AbortSignal | undefined): Promise<Response>;
  /** Waits; throws the reason of the signal. */
  sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void>;
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
  /** A random number up to this one: callers that failed together do not come back together. */
  jitter(longest: number): number;
}

/** Sends the call until it succeeds, may not be repeated, or has no time left; throws its last error. */
export async function carryOut<Result>(call: Call<Result>, settings: Settings, world: World, signal?: AbortSignal): Promise<Result> {
  const deadline = world.now() + settings.timeout;
  const key = call.idempotencyKey ?? (call.endpoint.idempotency === "key" ? randomUUID() : undefined);
  let last: ClavigerError | undefined;
  let rejected: SecretText | undefined;
  let attempt = 0;
  for (;;) {
    let pause: number | undefined;
    const token = call.endpoint.credential === false ? undefined : await credential(settings, world, deadline, signal, last);
    if (last !== undefined && rejected !== undefined && token !== undefined && token.equals(rejected)) {
      throw last;
    }
    const left = deadline - world.now();
    if (left <= 0 || (last !== undefined && left < SHORTEST)) {
      throw last ?? noTime();
    }
    try {
      return resultOf(call, await world.send(requestOf(call, settings, token, key, left), signal));
    } catch (error) {
      if (!(error instanceof ClavigerError)) {
        throw error;
      }
      // Of this attempt alone: after one that was not sent, a repetition is as safe as this attempt was.
      pause = pauseAfter(call, error, attempt, world);
      last = after(last, error);
    }
    if (last.code === "unauthenticated" && settings.tokens.changes && rejected === undefined) {
      // The token may have been replaced after it was read; a retry with another one is no repetition.
      rejected = token;
      continue;
    }
    rejected = undefined;
    if (pause === undefined || attempt === settings.retries || world.now() + pause + SHORTEST > deadline) {
      throw last;
    }
    log("%s %s: %s; again in %d ms", call.endpoint.method, call.path, last.code, Math.round(pause));
    await world.sleep(pause, signal);
    attempt += 1;
  }
}

/** Carries out the requests of a batch, and joins their results in order. */
export async function carryOutBatch<Result>(parts: readonly Part<Result>[], settings: Settings, world: World, signal?: AbortSignal): Promise<Result[]> {
  const results: Result[] = [];
  for (const { call, size } of parts) {
    try {
      const page = await carryOut(call, settings, world, signal);
      if (page.items.length !== size) {
        // Results would be taken for those of other items.
        throw miscounted((page as Partial<Model>).meta);
      }
      results.push(...page.items);
    } catch (error) {
      if (error instanceof ClavigerError) {
        Object.defineProperty(error, "results", { value: results });
      }
      throw error;
    }
  }
  return results;
}

/** The error of an attempt after another one: what that may have done stays done. */
function after(last: ClavigerError | undefined, error: ClavigerError): ClavigerError {
  return last?.maybeExecuted ? Object.assign(error, { maybeExecuted: true }) : error;
}

async function credential(
  settings: Settings,
  world: World,
  deadline: number,
  signal: AbortSignal | undefined,
  last: ClavigerError | undefined,
): Promise<SecretText> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await settings.tokens.read();
    } catch (error) {
      const again = error instanceof TokenError && error.isRetryable && attempt <= TOKEN_ATTEMPTS;
      if (!again || world.now() + TOKEN_PAUSE > deadline) {
        throw error instanceof ClavigerError ? after(last, error) : error;
      }
    }
    await world.sleep(TOKEN_PAUSE, signal);
  }
}

function requestOf(call: Call<unknown>, settings: Settings, token: SecretText | undefined, key: string | undefined, left: number): Request {
  // The gateway gets a little less, so that its own answer to a passed deadline, with its request id, arrives.
  const allowed = Math.max(SHORTEST, left - Math.min(250, left / 10));
  const query = new URLSearchParams(call.query).toString();
  return {
    method: call.endpoint.method,
    url: `${settings.address}${call.path}${query && `?${query}`}`,
    headers: {
      ...settings.headers,
      ...call.headers,
      "Claviger-Timeout": `${Math.floor(allowed)}ms`,
      ...(key !== undefined && { "Idempotency-Key": key }),
      ...(call.body !== undefined && { "Content-Type": "application/json" }),
    },
    body: call.body,
    token,
    milliseconds: left,
    reuse: call.endpoint.idempotency !== "never",
  };
}

/** Milliseconds until the call may be sent again; undefined if it may not. */
function pauseAfter(call: Call<unknown>, error: ClavigerError, attempt: number, world: World): number | undefined {
  if (!error.isRetryable) {
    return undefined;
  }
  let least = error.retryAfter ?? 0;
  if (error instanceof TransportError || error.status === undefined) {
    if (error.maybeExecuted && call.endpoint.idempotency === "never") {
      return undefined;
    }
  } else {
    // The gateway itself says that the same request may succeed later.
    least ||= PAUSE_AFTER_PROBLEM;
  }
  return least + world.jitter(Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt));
}

function resultOf<Result>(call: Call<Result>, response: Response): Result {
  const { response: codec, alsoSuccess } = call.endpoint;
  const { status, headers } = response;
  const succeeded = status >= 200 && status < 300;
  const is = (other: unknown) => (codec as unknown) === other;
  if (succeeded && is(nothing) && status === 204) {
    return codec.decode(undefined, "");
  }
  if (succeeded && is(plain)) {
    if (kindOf(response) !== "text/plain") {
      // A page of a proxy is text, too.
      throw unexpected(response);
    }
    return codec.decode(response.body.toString(), "");
  }
  let body: unknown;
  try {
    body = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(response.body));
  } catch {
    throw unexpected(response);
  }
  const code = typeof body === "object" && body !== null && "code" in body ? body.code : undefined;
  if ((succeeded || (status === alsoSuccess && code === undefined)) && !is(nothing)) {
    try {
      const made = codec.decode(body, "");
      const meta = { requestId: headers["x-request-id"], auditIndex: headers["claviger-audit-index"] };
      return typeof made === "object" && made !== null ? Object.defineProperty(made, "meta", { value: meta }) : made;
    } catch (error) {
      if (error instanceof Mismatch) {
        throw unexpected(response, `in its body ${error.message}`, "Check that this release of the client goes with the gateway.");
      }
      throw error;
    }
  }
  if (!succeeded && typeof code === "string" && code !== "") {
    throw problemError(body as Record<string, unknown>, { status, retryAfter: retryAfter(response), auditIndex: headers["claviger-audit-index"] });
  }
  throw unexpected(response);
}

function unexpected(response: Response, what?: string, whatToDo?: string): UnexpectedResponseError {
  const { status } = response;
  const kind = kindOf(response);
  const away = GATEWAY_AWAY.includes(status);
  let advice = "Check the address, and what is between the client and the gateway: a proxy or a load balancer answered, or another service.";
  if (status >= 300 && status < 400) {
    advice = "Redirects are not followed. Set the address to where the gateway is.";
  } else if (away) {
    advice = "A proxy or a load balancer does not reach the gateway. Check that the gateway runs (/readyz), and what is between.";
  }
  return new UnexpectedResponseError(`The response is not one of a Claviger gateway: status ${status}, ${what ?? kind}.`, {
    code: "unexpected_response",
    title: "Unexpected response",
    status,
    whatToDo: whatToDo ?? advice,
    requestId: response.headers["x-request-id"],
    // JSON that ends too early is a response that was lost on the way.
    isRetryable: away || (status < 300 && kind === "application/json" && what === undefined),
    maybeExecuted: status < 300 || away,
    retryAfter: retryAfter(response),
  });
}

function kindOf(response: Response): string {
  return response.headers["content-type"]?.split(";")[0]?.trim().toLowerCase() || "no content type";
}

function miscounted(meta: Meta | undefined): UnexpectedResponseError {
  return new UnexpectedResponseError("The response to a batch has not one result for each item.", {
    code: "unexpected_response",
    title: "Unexpected response",
    whatToDo: "Check that this release of the client goes with the gateway.",
    requestId: meta?.requestId,
    maybeExecuted: true,
  });
}

function retryAfter(response: Response): number | undefined {
  const seconds = response.headers["retry-after"] ?? "";
  return /^\d{1,9}$/.test(seconds) ? Number(seconds) * 1000 : undefined;
}

function noTime(): DeadlineExceededError {
  return new DeadlineExceededError("The deadline passed before the request was sent.", {
    code: "deadline_exceeded",
    title: "Deadline exceeded",
    whatToDo: "Allow more time.",
    isRetryable: true,
  });
}
