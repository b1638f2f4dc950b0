/** What comes in between: each is a typed error that says what to do. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import {
  Client,
  type ClientOptions,
  ClavigerError,
  ConnectionLostError,
  DeadlineExceededError,
  GatewayUnreachableError,
  InvalidRequestError,
  KeyState,
  KeyUnusableError,
  NotFoundError,
  ProviderUnavailableError,
  RateLimitedError,
  TruncatedResponseError,
  UnexpectedResponseError,
  isKnown,
} from "../src/index.js";
import { Transport } from "../src/transport.js";
import { type Answer, KEY, SECRET, Stub, TOKEN, UNWRAPPED, answer, problem } from "./stub.js";

const PAGE = answer(502, "<html><h1>502 Bad Gateway</h1></html>", { kind: "text/html; charset=utf-8" });

async function setUp(t: TestContext, answers: Answer[], options: Partial<ClientOptions> = {}) {
  const stub = await Stub.start(t);
  stub.answers = answers;
  const client = new Client({ address: stub.address, token: TOKEN, ...options });
  t.after(() => client.close());
  return { stub, client };
}

/** The error that a call ends with. */
async function failure<Class extends ClavigerError>(call: Promise<unknown>, Class: abstract new (...args: never[]) => Class): Promise<Class> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Class) {
      return error;
    }
    throw error;
  }
  throw new assert.AssertionError({ message: `no ${Class.name}` });
}

test("a truncated answer", async (t) => {
  const cut = answer(200, UNWRAPPED, { length: 4000 });
  const { stub, client } = await setUp(t, [cut, answer(200, UNWRAPPED)]);
  assert.deepEqual(Buffer.from((await client.unwrap("clv1.x")).plaintext.expose()), SECRET);
  assert.equal(stub.requests.length, 2);
  stub.answers = [cut];
  const error = await failure(client.withOptions({ retries: 1 }).unwrap("clv1.x"), TruncatedResponseError);
  assert.deepEqual([error.code, error.status, error.isRetryable, error.maybeExecuted], ["response_truncated", undefined, true, true]);
  assert.ok(error.whatToDo);
  assert.equal(error.name, "TruncatedResponseError");
  assert.equal(stub.requests.length, 4);
  // A change is not sent again.
  await failure(client.deleteKey("orders"), TruncatedResponseError);
  assert.equal(stub.requests.length, 5);
});

test("JSON that ends too early", async (t) => {
  const { client } = await setUp(t, [answer(200, '{"plaintext": "c2Vj'), answer(200, UNWRAPPED)]);
  assert.equal((await client.unwrap("clv1.x")).key, "orders");
});

test("a chunked answer that ends too early, or is nonsense", async (t) => {
  const head = "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
  const { stub, client } = await setUp(t, [Buffer.from(`${head}5\r\n{"pla`)], { retries: 0 });
  await failure(client.unwrap("clv1.x"), TruncatedResponseError);
  stub.answers = [Buffer.from(`${head}zz\r\n`)];
  await failure(client.unwrap("clv1.x"), TruncatedResponseError);
});

test("an HTML page of a proxy", async (t) => {
  const { stub, client } = await setUp(t, [PAGE], { retries: 1 });
  const error = await failure(client.getKey("orders"), UnexpectedResponseError);
  assert.deepEqual([error.status, error.code, error.isRetryable], [502, "unexpected_response", true]);
  assert.match(error.detail, /status 502, text\/html/);
  assert.match(error.whatToDo ?? "", /\/readyz/);
  assert.equal(stub.requests.length, 2);
  stub.answers = [answer(200, "<html>Sign in</html>", { kind: "text/html" })];
  await assert.rejects(client.getKey("orders"), /a proxy or a load balancer answered/);
  stub.answers = [answer(414)];
  await assert.rejects(client.getKey("orders"), /status 414/);
  stub.answers = [answer(307, undefined, { headers: { Location: "http://127.0.0.1:1/" } })];
  await assert.rejects(client.getKey("orders"), /Redirects are not followed/);
  assert.equal(stub.requests.length, 5);
});

test("a server that is none", async (t) => {
  const { stub, client } = await setUp(t, [Buffer.from("SSH-2.0-OpenSSH_9.2\r\n\r\n")]);
  const error = await failure(client.getKey("orders"), UnexpectedResponseError);
  assert.match(error.message, /does not speak HTTP/);
  const secure = new Client({ address: stub.address.replace("http:", "https:"), token: TOKEN });
  const unreachable = await failure(secure.getKey("orders"), GatewayUnreachableError);
  assert.match(unreachable.message, /right scheme/);
  assert.equal(unreachable.isRetryable, false);
});

test("a response without end", async (t) => {
  const stub = await Stub.start(t);
  stub.answers = [answer(200, " ".repeat(2 << 20))];
  const transport = new Transport(new URL(stub.address), undefined, 1 << 20);
  const request = { method: "GET", url: stub.address, headers: {}, body: undefined, token: undefined, milliseconds: 10_000, reuse: true };
  const error = await failure(transport.send(request, undefined), UnexpectedResponseError);
  assert.match(error.message, /larger than any/);
  assert.equal(stub.requests.length, 1);
});

test("a refused connection", async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  const error = await failure(new Client({ address: `http://127.0.0.1:${port}`, token: TOKEN, retries: 2 }).getKey("orders"), GatewayUnreachableError);
  assert.match(error.detail, /connection refused/);
  assert.deepEqual([error.status, error.isRetryable, error.maybeExecuted], [undefined, true, false]);
  assert.match(error.whatToDo ?? "", /gateway runs/);
  // A host with several addresses.
  await assert.rejects(new Client({ address: `http://localhost:${port}`, token: TOKEN, retries: 0 }).getKey("orders"), /connection refused/);
  // Whoever answers cannot know this name.
  const nowhere = new Client({ address: "https://no-such-host.invalid", token: TOKEN, retries: 0 });
  await assert.rejects(nowhere.getKey("orders"), /No connection to no-such-host\.invalid/);
});

test("a connection that ends without an answer", async (t) => {
  const { stub, client } = await setUp(t, [null, answer(201, KEY)]);
  assert.equal((await client.createKey("orders", "embedded")).name, "orders");
  const [first, second] = stub.requests;
  assert.ok(first?.headers["idempotency-key"]);
  assert.equal(first.headers["idempotency-key"], second?.headers["idempotency-key"]);
  assert.equal(first.body, second?.body);
  stub.answers = [null];
  const error = await failure(client.updateKey("orders", { labels: { a: "b" } }, { etag: "*" }), ConnectionLostError);
  assert.ok(error.maybeExecuted);
  assert.match(error.whatToDo ?? "", /Repeat the call if that is safe/);
  assert.equal(stub.requests.length, 3);
});

test("a gateway that does not answer", async (t) => {
  const { stub, client } = await setUp(t, [() => new Promise(() => undefined)], { timeout: 300 });
  const begin = performance.now();
  const error = await failure(client.getKey("orders"), DeadlineExceededError);
  assert.ok(performance.now() - begin > 250);
  assert.ok(error.maybeExecuted);
  assert.equal(error.requestId, undefined);
  assert.match(error.whatToDo ?? "", /Allow more time/);
  const sent = /^(\d+)ms$/.exec(stub.requests[0]?.headers["claviger-timeout"] ?? "")?.[1];
  assert.ok(Number(sent) >= 100 && Number(sent) <= 270, sent);
});

test("a server that does not finish the handshake", async (t) => {
  const server = net.createServer(() => undefined).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  const client = new Client({ address: `https://127.0.0.1:${port}`, token: TOKEN, timeout: 300 });
  const error = await failure(client.getKey("orders"), GatewayUnreachableError);
  assert.match(error.detail, /it took too long/);
  assert.equal(error.maybeExecuted, false);
});

test("a response that trickles in", async (t) => {
  let parts = 0;
  async function* trickle() {
    yield answer(200, undefined, { length: 100_000 });
    for (; parts < 200; parts += 1) {
      await wait(50);
      yield Buffer.from(" ");
    }
  }
  const { stub, client } = await setUp(t, [trickle], { timeout: 400 });
  await failure(client.getKey("orders"), DeadlineExceededError);
  assert.equal(stub.requests.length, 1);
  assert.ok(parts < 100);
  parts = 200;
});

test("more calls than connections", async (t) => {
  const waiting: (() => void)[] = [];
  const held = () => new Promise<Buffer>((resolve) => waiting.push(() => resolve(answer(200, KEY))));
  const { stub, client } = await setUp(t, [held]);
  const calls = Array.from({ length: 100 }, () => client.getKey("orders"));
  while (waiting.length < 100) {
    await wait(5);
  }
  const error = await failure(client.withOptions({ timeout: 200 }).getKey("orders"), GatewayUnreachableError);
  assert.match(error.message, /all connections of the client are in use.*Make fewer calls/);
  assert.equal(error.maybeExecuted, false);
  const next = client.getKey("orders");
  stub.answers = [answer(200, KEY)];
  waiting.forEach((answered) => answered());
  assert.equal((await Promise.all([...calls, next])).length, 101);
});

test("the end of a view leaves the calls of others", async (t) => {
  let answered = (): void => undefined;
  const held = () => new Promise<Buffer>((resolve) => (answered = () => resolve(answer(200, KEY))));
  const { stub, client } = await setUp(t, [held], { retries: 0 });
  const call = client.getKey("orders");
  while (stub.requests.length === 0) {
    await wait(5);
  }
  client.withOptions({ tenant: "acme" }).close();
  answered();
  assert.equal((await call).name, "orders");
  const last = client.getKey("orders");
  while (stub.requests.length === 1) {
    await wait(5);
  }
  client.close();
  await failure(last, ConnectionLostError);
});

test("a call that is aborted", async (t) => {
  const { stub, client } = await setUp(t, [() => new Promise(() => undefined)]);
  const reason = new Error("no longer wanted");
  await assert.rejects(client.getKey("orders", { signal: AbortSignal.abort(reason) }), reason);
  assert.equal(stub.connections, 0);
  const inFlight = new AbortController();
  const call = client.getKey("orders", { signal: inFlight.signal });
  while (stub.requests.length === 0) {
    await wait(5);
  }
  inFlight.abort(reason);
  await assert.rejects(call, reason);
  // While it waits for a retry.
  stub.answers = [problem("rate_limited", 429, { retryable: true }, { "Retry-After": "20" })];
  const pausing = new AbortController();
  const paused = client.getKey("orders", { signal: pausing.signal });
  while (stub.requests.length === 1) {
    await wait(5);
  }
  await wait(50);
  pausing.abort(reason);
  await assert.rejects(paused, reason);
  await assert.rejects(client.getKey("orders", { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
});

test("problems of later gateways", async (t) => {
  const members = { moon: "full", what_to_do: "Wait.", errors: [{ pointer: "/a", expected: "b" }] };
  const { stub, client } = await setUp(t, [problem("moon_phase", 418, members)], { retries: 1 });
  const error = await failure(client.getKey("orders"), ClavigerError);
  assert.equal(error.constructor, ClavigerError);
  assert.deepEqual([error.code, error.status, error.requestId, error.title], ["moon_phase", 418, "0193", "Title"]);
  assert.deepEqual(error.extra, { moon: "full" });
  assert.deepEqual(error.errors, [{ pointer: "/a", expected: "b" }]);
  assert.equal(error.message, "Detail. [moon_phase] /a: expected b. Wait. (request 0193)");
  stub.answers = [problem("moon_phase", 503, { retryable: true })];
  await failure(client.getKey("orders"), ClavigerError);
  assert.equal(stub.requests.length, 3);
  stub.answers = [problem("constructor", 400)];
  assert.equal((await failure(client.getKey("orders"), ClavigerError)).constructor, ClavigerError);
  // Members of the wrong kind do not hide the error.
  stub.answers = [problem("not_found", 404, { detail: 5, errors: "x", provider: [] })];
  assert.equal((await failure(client.getKey("orders"), NotFoundError)).detail, "The request failed.");
});

test("words and members of later gateways", async (t) => {
  const later = { state: "eclipsed", moon: "full", rotation: { state: "idle", since: "now" } };
  const { client } = await setUp(t, [answer(200, { ...KEY, ...later, labels: JSON.parse('{"__proto__": "x"}') })]);
  const key = await client.getKey("orders");
  assert.equal(key.state, "eclipsed");
  assert.ok(!isKnown(KeyState, key.state));
  assert.deepEqual(key.extra, { moon: "full" });
  assert.deepEqual(key.rotation.extra, { since: "now" });
  assert.deepEqual(Object.entries(key.labels), [["__proto__", "x"]]);
});

test("a member that is called __proto__", async (t) => {
  const { client } = await setUp(t, [answer(200, JSON.stringify(KEY).replace("{", '{"__proto__": {"name": "polluted"}, '))]);
  const key = await client.getKey("orders");
  assert.equal(key.name, "orders");
  assert.deepEqual(Object.entries(key.extra), [["__proto__", { name: "polluted" }]]);
});

for (const [code, status, Class] of [
  ["key_disabled", 409, KeyUnusableError],
  ["rate_limited", 429, RateLimitedError],
  ["circuit_open", 503, ProviderUnavailableError],
  ["invalid_envelope", 400, InvalidRequestError],
] as const) {
  test(`the class of ${code}`, async (t) => {
    const { client } = await setUp(t, [problem(code, status)]);
    const error = await failure(client.getKey("orders"), Class);
    assert.ok(error instanceof ClavigerError && error instanceof Error);
    assert.equal(error.name, error.constructor.name);
    assert.match(String(error), new RegExp(`^${error.name}: Detail\\. \\[${code}\\]`));
  });
}

test("Retry-After is waited for", async (t) => {
  const { client } = await setUp(t, [problem("rate_limited", 429, { retryable: true }, { "Retry-After": "1" }), answer(200, KEY)]);
  const begin = performance.now();
  assert.equal((await client.getKey("orders")).name, "orders");
  // Timers of Node may be a millisecond early.
  assert.ok(performance.now() - begin >= 990);
});

for (const address of ["", "localhost", "ftp://localhost", "http://", "http://gateway.example", "https://u:p@gateway", "https://gateway?x", "https://gateway:99999", "http://127.0.0.1.example"]) {
  test(`an address that is refused: ${address}`, () => {
    assert.throws(() => new Client({ address, token: TOKEN }), TypeError);
  });
}

test("addresses that are taken", async (t) => {
  new Client({ address: "http://[::1]:8420/prefix/", token: TOKEN });
  new Client({ address: "http://gateway.example", token: TOKEN, allowPlainHttp: true });
  const { stub } = await setUp(t, [answer(200, KEY)]);
  await new Client({ address: new URL(`${stub.address}/prefix/`), token: TOKEN }).getKey("orders");
  assert.equal(stub.requests[0]?.target, "/prefix/v1/keys/orders");
});

test("arguments that are refused", async (t) => {
  const wrong: Partial<ClientOptions>[] = [{ timeout: 0 }, { timeout: 1e9 }, { timeout: NaN }, { retries: -1 }, { tenant: "a\nb" }, { justification: "x".repeat(257) }, { justification: "ü" }];
  for (const options of wrong) {
    assert.throws(() => new Client({ address: "http://localhost", token: TOKEN, ...options }), TypeError);
  }
  for (const ca of ["/no/such/file", process.execPath, new URL(import.meta.url)]) {
    assert.throws(() => new Client({ address: "https://localhost", token: TOKEN, ca }), /PEM certificates/);
  }
  const { stub, client } = await setUp(t, [problem("not_found", 404)]);
  for (const name of ["", ".", "..", 5 as never]) {
    await assert.rejects(client.getKey(name), TypeError);
  }
  const refused: Promise<unknown>[] = [
    client.wrap("k", "abcd" as never),
    client.wrap("k", [1, 2] as never),
    client.generateDataKey("k", { contxt: { a: "b" } } as never),
    client.generateDataKey("k", { context: { a: 5 } } as never),
    client.generateDataKey("k", { context: ["a"] } as never),
    client.createKey("k", undefined as never),
    client.createToken("p", "Unwrap" as never),
    client.createToken("p", ["Unwrap"], { expiresIn: "90 days" as never }),
    client.createToken("p", ["Unwrap"], { expiresIn: 0.5 }),
    client.createConnection("c", "oracle" as never, {} as never),
    client.createConnection("c", "aws", { region: "eu" } as never),
    client.batchUnwrap([{ wrapped: "a", contxt: {} } as never]),
    client.listTokens(".").next(),
  ];
  for (const call of refused) {
    await assert.rejects(call, TypeError);
  }
  assert.equal(stub.requests.length, 0);
  await failure(client.getKey("a/../b?c#d%"), NotFoundError);
  assert.equal(stub.requests[0]?.target, "/v1/keys/a%2F..%2Fb%3Fc%23d%25");
});
