/** Retries and deadlines, without a network: the test is the world, with a clock of its own. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

import { type Call, type Request, type Response, makeCall } from "../src/calls.js";
import { carryOut } from "../src/core.js";
import * as endpoints from "../src/generated/operations.js";
import {
  ClavigerError,
  ConflictError,
  ConnectionLostError,
  DeadlineExceededError,
  GatewayUnreachableError,
  type Key,
  RateLimitedError,
  SecretText,
  TokenError,
  UnauthenticatedError,
  UnavailableError,
  UnexpectedResponseError,
} from "../src/index.js";
import { KEY, OTHER_TOKEN, TOKEN } from "./stub.js";

const GET = makeCall(endpoints.getKey, { path: { key: "orders" } });
const CREATE = makeCall(endpoints.createKey, { body: { name: "orders", connection: "embedded" } });
const PATCH = makeCall(endpoints.updateKey, { path: { key: "orders" }, body: { labels: {} }, etag: "*" });
const DISABLE = makeCall(endpoints.disableKey, { path: { key: "orders" }, body: {} });
const GENERATE = makeCall(endpoints.generateDataKey, { path: { key: "orders" }, body: {} });
const REVOKE = makeCall(endpoints.deleteToken, { path: { principal: "p", token: "t" } });
const DELETE = makeCall(endpoints.deleteKey, { path: { key: "orders" } });
const CHECK = makeCall(endpoints.checkConnection, { path: { connection: "c" } });
const APPLY = makeCall(endpoints.applyDeclared, {});
const READINESS = makeCall(endpoints.getReadiness, {});
const METRICS = makeCall(endpoints.getMetrics, {});

function response(status: number, body: unknown, headers: Response["headers"] = {}): Response {
  return { status, headers, body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)) };
}

function problem(status: number, code: string, retryable: boolean, retryAfter?: string): Response {
  const body = { code, detail: "D.", title: "T", status, request_id: "r", retryable };
  return response(status, body, retryAfter === undefined ? {} : { "retry-after": retryAfter });
}

const SUCCESS = response(200, KEY, { "x-request-id": "0193", "claviger-audit-index": "log#1" });
const LIMITED = problem(429, "rate_limited", true);
const UNAUTHENTICATED = problem(401, "unauthenticated", false);
const lost = () => new ConnectionLostError("Lost.", { code: "connection_lost", isRetryable: true, maybeExecuted: true });
const refused = () => new GatewayUnreachableError("Refused.", { code: "gateway_unreachable", isRetryable: true });
const late = () => new DeadlineExceededError("Late.", { code: "deadline_exceeded", isRetryable: true, maybeExecuted: true });
const AWAY = new TokenError("Missing.", { code: "token_unusable", isRetryable: true });

interface Options {
  readonly tokens?: readonly (string | TokenError)[];
  readonly changes?: boolean;
  readonly timeout?: number;
  readonly retries?: number;
  readonly jitter?: (longest: number) => number;
  /** Milliseconds that each request takes. */
  readonly takes?: number;
  readonly tokenTakes?: number;
}

class Run<Result> {
  now = 100_000;
  readonly requests: Request[] = [];
  readonly sleeps: number[] = [];
  readonly jitters: number[] = [];
  result: Result | undefined;
  error: ClavigerError | undefined;

  get keys(): (string | undefined)[] {
    return this.requests.map((request) => request.headers["Idempotency-Key"]);
  }

  get tokens(): (string | undefined)[] {
    return this.requests.map((request) => request.token?.expose());
  }
}

/** Carries a call out. `answers` are the outcomes of requests, the last one again and again. */
async function run<Result>(call: Call<Result>, answers: readonly (Response | ClavigerError)[], options: Options = {}): Promise<Run<Result>> {
  const { tokens = [TOKEN], changes = true, timeout = 30_000, retries = 4, jitter = (longest: number) => longest, takes = 0, tokenTakes = 0 } = options;
  const made = new Run<Result>();
  let asked = 0;
  const read = async () => {
    made.now += tokenTakes;
    const token = tokens[Math.min(asked++, tokens.length - 1)];
    if (token instanceof TokenError) {
      throw token;
    }
    return new SecretText(token ?? "");
  };
  const settings = { address: "http://gateway", tokens: { changes, read }, headers: { "Claviger-Tenant": "acme" }, timeout, retries };
  const world = {
    now: () => made.now,
    async sleep(milliseconds: number) {
      made.sleeps.push(milliseconds);
      made.now += milliseconds;
    },
    jitter(longest: number) {
      made.jitters.push(longest);
      return jitter(longest);
    },
    async send(request: Request) {
      made.requests.push(request);
      made.now += takes;
      const next = answers[Math.min(made.requests.length, answers.length) - 1];
      if (next === undefined || next instanceof ClavigerError) {
        throw next;
      }
      return next;
    },
  };
  try {
    made.result = await carryOut(call, settings, world);
  } catch (error) {
    if (!(error instanceof ClavigerError)) {
      throw error;
    }
    made.error = error;
  }
  return made;
}

test("a success has its request and record", async () => {
  const { result, requests } = await run<Key>(GET, [SUCCESS]);
  assert.equal(result?.name, "orders");
  assert.deepEqual(result.meta, { requestId: "0193", auditIndex: "log#1" });
  assert.equal(requests[0]?.url, "http://gateway/v1/keys/orders");
  assert.equal(requests[0].headers["Claviger-Tenant"], "acme");
  assert.equal(requests[0].headers["Idempotency-Key"], undefined);
});

test("what is retryable is retried with growing jitter", async () => {
  const { error, requests, jitters, sleeps } = await run(GET, [LIMITED]);
  assert.ok(error instanceof RateLimitedError);
  assert.equal(requests.length, 5);
  assert.deepEqual(jitters.slice(0, 4), [250, 500, 1000, 2000]);
  // The documented second, and the jitter on top.
  assert.deepEqual(sleeps, [1250, 1500, 2000, 3000]);
  assert.equal((await run(GET, [LIMITED], { retries: 0 })).requests.length, 1);
});

test("pauses stop growing", async () => {
  const { requests, jitters } = await run(GET, [refused()], { retries: 1500, timeout: 9_999_000, jitter: () => 0 });
  assert.equal(requests.length, 1501);
  assert.equal(Math.max(...jitters), 8000);
});

test("Retry-After is the least pause", async () => {
  const seven = await run(GET, [problem(503, "not_ready", true, "7"), SUCCESS], { jitter: (longest) => longest / 2 });
  assert.ok(seven.result);
  assert.deepEqual(seven.sleeps, [7125]);
  const longer = await run(GET, [problem(503, "not_ready", true, "31")]);
  assert.ok(longer.error instanceof UnavailableError);
  assert.deepEqual(longer.sleeps, []);
  assert.equal(longer.error.retryAfter, 31_000);
  for (const nonsense of ["soon", "-1", "1.5", "²", "9".repeat(30), "0"]) {
    assert.deepEqual((await run(GET, [problem(503, "not_ready", true, nonsense), SUCCESS])).sleeps, [1250]);
  }
});

test("what is not retryable is not retried", async () => {
  assert.equal((await run(GET, [problem(409, "key_disabled", false)])).requests.length, 1);
  const unknown = await run(GET, [problem(418, "later_code", false)]);
  assert.equal(unknown.error?.constructor, ClavigerError);
  assert.deepEqual([unknown.error.code, unknown.error.status, unknown.requests.length], ["later_code", 418, 1]);
  // An unknown code goes by `retryable`, too.
  assert.ok((await run(GET, [problem(503, "later_code", true), SUCCESS])).result);
});

test("the deadline is sent and shrinks", async () => {
  const { requests, error, now } = await run(GET, [LIMITED], { timeout: 10_000, takes: 2000 });
  // Each attempt takes 2 s, and the pauses 1.25 s and 1.5 s.
  assert.deepEqual(requests.map((request) => request.headers["Claviger-Timeout"]), ["9750ms", "6500ms", "3000ms"]);
  assert.deepEqual(requests.map((request) => request.milliseconds), [10_000, 6750, 3250]);
  assert.ok(error instanceof RateLimitedError);
  assert.ok(now <= 110_000);
});

test("no time is slept away", async () => {
  const { sleeps, error } = await run(GET, [LIMITED], { timeout: 1000 });
  assert.deepEqual(sleeps, []);
  assert.ok(error instanceof RateLimitedError);
  // The token took what was left.
  const slow = await run(GET, [LIMITED], { timeout: 3000, tokenTakes: 850 });
  assert.deepEqual([slow.requests.length, slow.sleeps, slow.error?.code], [1, [1250], "rate_limited"]);
  assert.equal((await run(GET, [SUCCESS], { timeout: 100 })).requests[0]?.headers["Claviger-Timeout"], "100ms");
});

test("a deadline that passed is said", async () => {
  const late = await run(GET, [SUCCESS], { timeout: 200, tokenTakes: 300 });
  assert.ok(late.error instanceof DeadlineExceededError);
  assert.equal(late.error.maybeExecuted, false);
  const away = await run(GET, [SUCCESS], { tokens: [AWAY], timeout: 200 });
  assert.equal(away.error, AWAY);
  assert.ok(away.sleeps.length < 5);
  assert.deepEqual(away.requests, []);
});

test("the idempotency key is kept over retries", async () => {
  const first = await run(CREATE, [refused(), lost(), problem(409, "in_progress", true), SUCCESS]);
  assert.ok(first.result);
  assert.equal(first.requests.length, 4);
  assert.equal(new Set(first.keys).size, 1);
  assert.equal(first.keys[0]?.length, 36);
  assert.notEqual((await run(CREATE, [SUCCESS])).keys[0], first.keys[0]);
  const given = await run({ ...CREATE, idempotencyKey: "mine" }, [lost(), SUCCESS]);
  assert.deepEqual(given.keys, ["mine", "mine"]);
});

for (const call of [GET, CREATE, DISABLE, GENERATE, REVOKE] as Call<unknown>[]) {
  test(`a lost response is repeated where that is safe: ${call.endpoint.method} ${call.path}`, async () => {
    const { error, requests, sleeps } = await run(call, [lost(), refused(), problem(409, "in_use", false)]);
    assert.ok(error instanceof ConflictError);
    assert.equal(requests.length, 3);
    assert.ok(requests.every((request) => request.reuse));
    // What the first attempt may have done stays done.
    assert.equal(error.maybeExecuted, true);
    // There is no documented second for these.
    assert.deepEqual(sleeps, [250, 500]);
  });
}

for (const call of [PATCH, DELETE, CHECK, APPLY] as Call<unknown>[]) {
  test(`a lost response is not repeated where the caller must look: ${call.endpoint.method} ${call.path}`, async () => {
    const { error, requests } = await run(call, [lost()]);
    assert.equal(requests.length, 1);
    assert.equal(requests[0]?.reuse, false);
    assert.equal(error?.maybeExecuted, true);
    // Nothing was sent, or the gateway itself says that the request may be repeated.
    assert.equal((await run(call, [refused()])).requests.length, 5);
    assert.equal((await run(call, [LIMITED])).requests.length, 5);
    assert.equal((await run(call, [late()])).requests.length, 1);
    // The gateway's word is still good when an attempt in between was not sent.
    assert.equal((await run(call, [problem(504, "deadline_exceeded", true), refused(), LIMITED])).requests.length, 5);
  });
}

test("a proxy without its gateway is like a lost response", async () => {
  const page = response(502, "<html>", { "content-type": "text/html; charset=utf-8" });
  assert.ok((await run(GET, [page, SUCCESS])).result);
  assert.equal((await run(PATCH, [page])).requests.length, 1);
  const { error } = await run(GET, [page]);
  assert.ok(error instanceof UnexpectedResponseError);
  assert.match(error.detail, /text\/html/);
  // JSON of a proxy is no problem document either.
  for (const body of ['{"error": "no upstream"}', '{"code": ""}', '{"code": 502}', "[]"]) {
    assert.ok((await run(GET, [response(502, body, { "content-type": "application/json" })])).error instanceof UnexpectedResponseError);
  }
  assert.equal((await run(GET, [response(404, "<html>", { "content-type": "text/html" })])).requests.length, 1);
});

test("a replaced token is used at once", async () => {
  const { result, tokens, sleeps } = await run(GET, [UNAUTHENTICATED, SUCCESS], { tokens: [TOKEN, OTHER_TOKEN] });
  assert.ok(result);
  assert.deepEqual(tokens, [TOKEN, OTHER_TOKEN]);
  assert.deepEqual(sleeps, []);
});

test("a rejected token is not sent twice", async () => {
  const { error, requests } = await run(GET, [UNAUTHENTICATED]);
  assert.ok(error instanceof UnauthenticatedError);
  assert.equal(requests.length, 1);
  const both = await run(GET, [UNAUTHENTICATED], { tokens: [TOKEN, OTHER_TOKEN, "third"] });
  assert.ok(both.error instanceof UnauthenticatedError);
  assert.equal(both.requests.length, 2);
  assert.equal((await run(GET, [UNAUTHENTICATED], { tokens: [TOKEN, OTHER_TOKEN], changes: false })).requests.length, 1);
});

test("a token file that is being replaced is retried", async () => {
  const { result, sleeps } = await run(GET, [SUCCESS], { tokens: [AWAY, AWAY, TOKEN] });
  assert.ok(result);
  assert.deepEqual(sleeps, [50, 50]);
  const gone = await run(GET, [SUCCESS], { tokens: [AWAY] });
  assert.equal(gone.error, AWAY);
  assert.equal(gone.sleeps.length, 10);
  const wrong = () => new TokenError("Wrong.", { code: "token_unusable" });
  assert.deepEqual((await run(GET, [SUCCESS], { tokens: [wrong()] })).sleeps, []);
  // It does not hide that an attempt before it may have been carried out.
  const { error, requests } = await run(CREATE, [lost()], { tokens: [TOKEN, wrong()] });
  assert.deepEqual([error?.code, error?.maybeExecuted, requests.length], ["token_unusable", true, 1]);
});

test("a readiness that is not ready", async () => {
  const parts = [{ name: "log", ready: false, state: "full" }];
  const { result, requests } = await run(READINESS, [response(503, { ready: false, parts })]);
  assert.equal(result?.parts[0]?.state, "full");
  assert.equal(requests[0]?.token, undefined);
  assert.ok((await run(READINESS, [problem(503, "not_ready", false)])).error instanceof UnavailableError);
});

test("a body that is not the documented one is refused", async () => {
  for (const body of ["", "[]", "null", '{"name": 1}', "[".repeat(100_000), '"text"', JSON.stringify({ ...KEY, created: "2026-11-23" })]) {
    const { error, requests } = await run(GET, [response(200, body, { "content-type": "text/html" })]);
    assert.ok(error instanceof UnexpectedResponseError, body.slice(0, 100));
    assert.equal(requests.length, 1);
  }
  const noText = { ...response(200, ""), body: Buffer.from(JSON.stringify({ ...KEY, name: "\xff" }), "latin1") };
  assert.ok((await run(GET, [noText])).error instanceof UnexpectedResponseError);
  // 200 of a proxy's page is not the success of a deletion.
  assert.ok((await run(REVOKE, [response(200, "<html>", { "content-type": "text/html" })])).error instanceof UnexpectedResponseError);
  assert.ok((await run(REVOKE, [response(200, "{}")])).error instanceof UnexpectedResponseError);
  assert.equal((await run(REVOKE, [response(204, "")])).error, undefined);
  // Nor is it the metrics.
  for (const [kind, body] of [["text/html", "<html>"], ["application/json", '"text"'], [undefined, "a 1"]] as const) {
    assert.ok((await run(METRICS, [response(200, body, { "content-type": kind })])).error instanceof UnexpectedResponseError);
  }
  assert.equal((await run(METRICS, [response(200, "a 1", { "content-type": "Text/Plain; version=0.0.4" })])).result, "a 1");
  assert.match((await run(GET, [response(301, "", { location: "https://elsewhere" })])).error?.whatToDo ?? "", /Redirects/);
});

test("an idempotency key or an etag that cannot be sent", () => {
  for (const idempotencyKey of ["", "a b", "a\n", "ü", "x".repeat(256)]) {
    assert.throws(() => makeCall(endpoints.restoreConnection, { path: { connection: "c" }, idempotencyKey }), /idempotency key/);
  }
  for (const etag of ["", "a\r\nb", "ü"]) {
    assert.throws(() => makeCall(endpoints.updateKey, { path: { key: "k" }, body: {}, etag }), /etag/);
  }
});

test("a retry is logged where it is asked for", () => {
  const program = `
    import { Client } from "${new URL("../src/index.js", import.meta.url)}";
    const client = new Client({ address: "http://127.0.0.1:1", token: "t", retries: 1, timeout: 5000 });
    await client.getKey("orders").catch(() => undefined);
  `;
  const logged = (variables: object) =>
    spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8", env: { ...process.env, NODE_DEBUG: "", ...variables } }).stderr;
  assert.match(logged({ NODE_DEBUG: "claviger" }), /GET \/v1\/keys\/orders: gateway_unreachable; again in \d+ ms/);
  assert.equal(logged({}), "");
});
