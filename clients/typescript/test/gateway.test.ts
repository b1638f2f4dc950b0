/** Against a real gateway: each group of operations. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { inspect } from "node:util";

import {
  AlreadyCreatedError,
  AlreadyExistsError,
  CiphertextRejectedError,
  Client,
  ClavigerError,
  ConflictError,
  ConnectionState,
  DeadlineExceededError,
  GatewayUnreachableError,
  InvalidEnvelopeError,
  InvalidRequestError,
  KeyState,
  KeyUnusableError,
  NotFoundError,
  PermissionDeniedError,
  PreconditionFailedError,
  PrincipalKind,
  Secret,
  Spec,
  TokenKind,
  UnauthenticatedError,
} from "../src/index.js";
import { Gateway } from "./gateway.js";

const CONTEXT = { table: "orders" };
const gateway = await Gateway.start();
const acme = await gateway.withTenant("acme", "orders");

let names = 0;
/** A name of the test's own. */
function newName(): string {
  return `t${(names += 1)}`;
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function text(secret: Secret): string {
  return new TextDecoder().decode(secret.expose());
}

async function all<Item>(list: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of list) {
    items.push(item);
  }
  return items;
}

/** The error of a call, with this code. */
async function failure(call: Promise<unknown>, code: string, Class: typeof ClavigerError): Promise<ClavigerError> {
  const error = await call.then(() => undefined, (reason: unknown) => reason);
  assert.ok(error instanceof Class, inspect(error));
  assert.equal(error.code, code);
  return error;
}

function isNow(time: Date, shift = 0): void {
  assert.ok(Math.abs(time.getTime() - Date.now() - shift) < 300_000, time.toISOString());
}

test("a data key is generated and unwrapped", async () => {
  const dataKey = await acme.generateDataKey("orders", { context: CONTEXT });
  assert.deepEqual([dataKey.key, dataKey.version, dataKey.plaintext.length], ["orders", 1, 32]);
  assert.match(dataKey.wrapped, /^clv1\./);
  assert.ok(dataKey.meta?.requestId);
  assert.match(dataKey.meta.auditIndex ?? "", /#/);
  const again = await acme.unwrap(dataKey.wrapped, { context: CONTEXT });
  assert.ok(again.plaintext.equals(dataKey.plaintext));
  assert.deepEqual((await acme.unwrapWithKey("orders", dataKey.wrapped, { context: CONTEXT })).plaintext.expose(), dataKey.plaintext.expose());
  assert.equal((await acme.generateDataKey("orders", { bytes: 64 })).plaintext.length, 64);
  assert.equal((await acme.generateDataKey("orders", { plaintext: false })).plaintext, undefined);
});

test("no data key is kept", async () => {
  const name = newName();
  await acme.createKey(name, "embedded");
  const dataKey = await acme.generateDataKey(name);
  assert.ok(!(await acme.generateDataKey(name)).plaintext.equals(dataKey.plaintext));
  // Each use has its record.
  const [first, second] = [await acme.unwrap(dataKey.wrapped), await acme.unwrap(dataKey.wrapped)];
  assert.ok(first.plaintext.equals(second.plaintext));
  assert.notEqual(first.meta?.auditIndex, second.meta?.auditIndex);
  // What was opened a moment ago is not usable any more.
  await acme.disableKey(name);
  await failure(acme.unwrap(dataKey.wrapped), "key_disabled", KeyUnusableError);
  const [item] = await acme.batchUnwrap([{ wrapped: dataKey.wrapped }]);
  assert.equal(item?.error?.code, "key_disabled");
  await failure(acme.generateDataKey(name), "key_disabled", KeyUnusableError);
});

test("the wrong context is told by its class", async () => {
  const { wrapped } = await acme.wrap("orders", new Secret(bytes("0123456789")), { context: CONTEXT });
  const error = await failure(acme.unwrap(wrapped, { context: { table: "invoices" } }), "ciphertext_rejected", CiphertextRejectedError);
  assert.deepEqual([error.status, error.isRetryable, error.title], [422, false, "Ciphertext rejected"]);
  assert.ok(error.requestId);
  assert.ok(error.auditIndex);
  await failure(acme.unwrap(wrapped.slice(0, -4)), "invalid_envelope", InvalidEnvelopeError);
  const inspected = await acme.inspect(wrapped, { context: CONTEXT });
  assert.deepEqual([inspected.key, inspected.plaintextLength, inspected.context["table"]], ["orders", 10, "orders"]);
  isNow(inspected.created);
  assert.ok(inspected.recipients[0]?.ciphertext instanceof Uint8Array);
});

test("a key lives", async () => {
  const name = newName();
  const created = await acme.createKey(name, "embedded", { spec: Spec.Aes256, labels: { env: "test" }, cache: { enabled: true, maxAge: 60_000 } });
  assert.equal(created.cache.maxAge, 60_000);
  assert.deepEqual([created.state, created.spec, created.primaryVersion], [KeyState.Enabled, "aes-256", 1]);
  const { wrapped } = await acme.generateDataKey(name);
  assert.equal((await acme.rotateKey(name)).primaryVersion, 2);
  assert.deepEqual((await all(acme.listKeyVersions(name, { pageSize: 1 }))).map((version) => version.number), [1, 2]);
  const rewrapped = await acme.rewrap(name, wrapped);
  assert.deepEqual([rewrapped.changed, rewrapped.version], [true, 2]);
  const key = await acme.getKey(name);
  const changed = await acme.updateKey(name, { labels: { env: "prod" }, cache: key.cache }, { etag: key.etag });
  assert.deepEqual(changed.labels, { env: "prod" });
  await failure(acme.updateKey(name, { labels: {} }, { etag: key.etag }), "precondition_failed", PreconditionFailedError);
  assert.equal((await acme.disableKey(name)).state, KeyState.Disabled);
  await failure(acme.unwrap(rewrapped.wrapped), "key_disabled", KeyUnusableError);
  await failure(acme.generateDataKey(name), "key_disabled", KeyUnusableError);
  assert.equal((await acme.disableKey(name, { atProvider: true })).atProvider?.result, "done");
  assert.equal((await acme.enableKey(name, { atProvider: true })).state, KeyState.Enabled);
  assert.equal(await acme.deleteKey(name), undefined);
  await failure(acme.getKey(name), "not_found", NotFoundError);
  const [detached] = (await all(acme.listKeys({ state: "detached" }))).filter((found) => found.id === key.id);
  assert.ok(detached?.reattach?.connection);
  assert.ok((detached.detachedAt ?? 0) >= key.created);
  const back = await acme.createKey(name, detached.reattach.connection, { providerKey: detached.reattach.providerKey });
  assert.equal(back.id, key.id);
});

test("lists are paged to the end", async () => {
  const name = newName();
  const made = Array.from({ length: 7 }, (_, number) => `${name}-${number}`);
  for (const key of made) {
    await acme.createKey(key, "embedded", { labels: { test: name } });
  }
  for (const pageSize of [2, undefined]) {
    assert.deepEqual((await all(acme.listKeys({ label: ["test", name], pageSize }))).map((key) => key.name), made);
  }
  // Nothing is fetched before it is needed, nor after the iteration ended.
  for await (const key of acme.listKeys({ label: ["test", name], pageSize: 1 })) {
    assert.equal(key.name, made[0]);
    break;
  }
  assert.deepEqual(await all(acme.listKeys({ label: ["test", "none of it"] })), []);
  const error = await failure(all(acme.listKeys({ pageSize: 1001 })), "invalid_request", InvalidRequestError);
  assert.equal(error.errors[0]?.pointer, "query:page_size");
  await assert.rejects(all(acme.listKeys({ signal: AbortSignal.abort() })), { name: "AbortError" });
});

test("a batch with bad items", async () => {
  const name = newName();
  await acme.createKey(name, "embedded");
  await acme.disableKey(name);
  const [first, disabled, third] = await acme.batchGenerateDataKeys([{ key: "orders", context: CONTEXT }, { key: name }, { key: "orders", bytes: 16 }]);
  assert.ok(disabled?.error instanceof KeyUnusableError);
  assert.ok(disabled.auditIndex);
  assert.ok(first && !first.error && third && !third.error);
  assert.deepEqual([first.plaintext?.length, third.plaintext?.length], [32, 16]);
  const wrapped = await acme.batchWrap([
    { key: "orders", plaintext: bytes("plain") },
    { key: "orders", plaintext: new Secret(bytes("secret")) },
  ]);
  const opened = await acme.batchUnwrap([
    { wrapped: first.wrapped, context: CONTEXT },
    { wrapped: first.wrapped },
    ...wrapped.map((item) => ({ wrapped: item.error ? "" : item.wrapped, key: "orders" })),
  ]);
  const seen = opened.map((item) => (item.error ? item.error.code : text(item.plaintext)));
  assert.deepEqual(seen.slice(1), ["ciphertext_rejected", "plain", "secret"]);
  assert.ok(opened[0] && !opened[0].error && first.plaintext?.equals(opened[0].plaintext));
  const [rewrapped] = await acme.batchRewrap([{ key: "orders", wrapped: first.wrapped, context: CONTEXT }]);
  assert.ok(rewrapped && !rewrapped.error && rewrapped.key === "orders");
  await failure(acme.batchGenerateDataKeys([{ key: "No Name" }]), "invalid_request", InvalidRequestError);
});

test("more items than a request takes", async () => {
  const count = 1203;
  const wrapped = await acme.batchWrap(Array.from({ length: count }, (_, number) => ({ key: "orders", plaintext: bytes(`${number}`) })));
  assert.equal(wrapped.length, count);
  const opened = await acme.batchUnwrap(wrapped.map((item) => ({ wrapped: item.error ? "" : item.wrapped })));
  assert.deepEqual(opened.map((item) => (item.error ? item.error.code : text(item.plaintext))), Array.from({ length: count }, (_, number) => `${number}`));
});

test("a connection lives", async () => {
  const name = newName();
  const connection = await acme.createConnection(name, "local", {}, { labels: { a: "b" } });
  assert.deepEqual([connection.provider, connection.state, connection.problem], ["local", ConnectionState.Active, null]);
  assert.ok((await all(acme.listConnections({ pageSize: 1 }))).some((found) => found.name === name));
  await acme.createKey(name, name);
  const { wrapped } = await acme.generateDataKey(name);
  assert.ok((await acme.checkConnection(name)).reachable);
  assert.ok((await acme.getConnectionCapabilities(name)).keys[0]?.spec);
  assert.equal((await acme.severConnection(name)).state, ConnectionState.Severed);
  await failure(acme.unwrap(wrapped), "connection_severed", KeyUnusableError);
  assert.equal((await acme.restoreConnection(name)).state, ConnectionState.Active);
  assert.equal((await acme.unwrap(wrapped)).key, name);
  assert.deepEqual((await acme.updateConnection(name, { labels: {}, timeouts: { attempt: 2000 } }, { etag: "*" })).timeouts.attempt, 2000);
  await failure(acme.deleteConnection(name), "in_use", ConflictError);
  const auth = { static: { accessKeyId: "a", secretAccessKey: "b" } };
  const error = await failure(acme.createConnection(`${name}-aws`, "aws", { region: "no region", auth }), "invalid_request", InvalidRequestError);
  assert.match(error.errors[0]?.pointer ?? "", /region/);
});

test("principals and tokens", async () => {
  const name = newName();
  await acme.createPrincipal(name, { kind: PrincipalKind.Workload });
  const token = await acme.createToken(name, ["GenerateDataKey", "Unwrap"], { keys: ["orders"], expiresIn: "1d", kind: TokenKind.Standing });
  const application = gateway.client({ tokenFile: undefined, token: token.token });
  const caller = await application.whoAmI();
  assert.deepEqual([caller.id, caller.operator, [...caller.operations].sort()], [token.id, false, ["GenerateDataKey", "Unwrap"]]);
  isNow(caller.expires, 86_400_000);
  assert.ok((await application.generateDataKey("orders")).plaintext);
  await failure(application.getKey("orders"), "permission_denied", PermissionDeniedError);
  assert.deepEqual((await all(acme.listTokens(name))).map((found) => found.id), [token.id]);
  // The same request with the same key makes no second token, and the text is not kept.
  const first = await acme.createToken(name, ["Unwrap"], { idempotencyKey: name });
  const error = await failure(acme.createToken(name, ["Unwrap"], { idempotencyKey: name }), "already_created", AlreadyCreatedError);
  assert.equal(error.createdId, first.id);
  await acme.deleteToken(name, token.id);
  await failure(application.generateDataKey("orders"), "unauthenticated", UnauthenticatedError);
  await acme.deletePrincipal(name);
  await acme.deletePrincipal(name);
  assert.ok((await all(acme.listPrincipals())).every((principal) => principal.name !== name));
});

test("tenants and the service", async () => {
  const name = newName();
  const operator = gateway.client({ justification: "Ticket 4711" });
  const tenant = await operator.createTenant(name);
  await failure(operator.createTenant(name), "already_exists", AlreadyExistsError);
  assert.equal((await operator.getTenant(name)).id, tenant.id);
  assert.equal((await operator.suspendTenant(name)).state, "suspended");
  assert.equal((await operator.resumeTenant(name)).state, "active");
  const found = (await all(operator.listTenants({ pageSize: 1 }))).map((other) => other.name);
  assert.ok(found.includes(name) && found.includes("acme"));
  const other = operator.withOptions({ tenant: name });
  assert.equal((await other.createConnection("embedded", "local", {})).tenant, tenant.id);
  assert.deepEqual(await all(other.listKeys()), []);
  assert.deepEqual((await operator.planDeclared()).steps, []);
  assert.equal((await operator.applyDeclared()).asDeclared, 0);
  await assert.rejects(operator.releaseDeclared("key", name, "no-key"), ClavigerError);
  assert.ok((await operator.getHealth()).alive);
  assert.ok((await operator.getReadiness()).ready);
  assert.match(await operator.getMetrics(), /claviger/);
  assert.equal(((await operator.getOpenapi())["info"] as { title: string }).title, "Claviger");
});

test("idempotency by the caller's key", async () => {
  const idempotencyKey = newName();
  const first = await acme.createKey(idempotencyKey, "embedded", { idempotencyKey });
  assert.equal((await acme.createKey(idempotencyKey, "embedded", { idempotencyKey })).id, first.id);
  await failure(acme.createKey(idempotencyKey, "embedded", { spec: "rsa-3072", idempotencyKey }), "idempotency_mismatch", ConflictError);
});

test("the deadline is taken by the gateway", async () => {
  // A gateway refuses a header that it cannot read, so both ends are tried.
  for (const timeout of [100, 250.5, 9_999_000]) {
    const error = await acme.withOptions({ timeout }).getKey("orders").then(() => undefined, (reason: unknown) => reason);
    // A machine that is busy.
    const late = error instanceof DeadlineExceededError || error instanceof GatewayUnreachableError;
    assert.ok(error === undefined || (late && timeout < 1000), inspect(error));
  }
});

test("a client of the environment", async (t) => {
  const before = { ...process.env };
  t.after(async () => {
    process.env = before;
  });
  process.env = Object.fromEntries(Object.entries(before).filter(([name]) => !name.startsWith("CLAVIGER_")));
  assert.throws(() => Client.fromEnv(), /CLAVIGER_ADDRESS/);
  process.env["CLAVIGER_ADDRESS"] = `http://${gateway.address}`;
  assert.throws(() => Client.fromEnv(), /CLAVIGER_TOKEN_FILE/);
  process.env["CLAVIGER_TOKEN"] = gateway.token;
  assert.ok((await Client.fromEnv().whoAmI()).operator);
  // As on the command line, the file goes before the text, and an argument before both.
  process.env["CLAVIGER_TOKEN"] = "other";
  process.env["CLAVIGER_TOKEN_FILE"] = "/no/such/file";
  assert.ok((await Client.fromEnv({ token: gateway.token }).whoAmI()).operator);
  process.env["CLAVIGER_TOKEN_FILE"] = gateway.tokenFile;
  process.env["CLAVIGER_TENANT"] = "acme";
  const claviger = Client.fromEnv({ timeout: 5000 });
  assert.equal((await claviger.getKey("orders")).name, "orders");
  await failure(Client.fromEnv({ tenant: null }).getKey("orders"), "invalid_request", InvalidRequestError);
});

test("views share the connections", async () => {
  const claviger = gateway.client();
  const view = claviger.withOptions({ tenant: "acme", timeout: 3000, retries: 0 });
  assert.equal((await view.getKey("orders")).name, "orders");
  // Only the first one ends them.
  view.close();
  assert.equal((await claviger.withOptions({ tenant: "acme" }).getKey("orders")).name, "orders");
  await failure(view.withOptions({ tenant: null }).getKey("orders"), "invalid_request", InvalidRequestError);
  claviger[Symbol.dispose]();
});

test("calls at once share a client", async () => {
  const { wrapped } = await acme.generateDataKey("orders");
  const found = await Promise.all(Array.from({ length: 200 }, () => acme.unwrap(wrapped)));
  assert.ok(found.every((unwrapped) => unwrapped.key === "orders"));
  // What is aborted in mid-flight leaves the client and its connections usable.
  const aborted = await Promise.allSettled(
    Array.from({ length: 20 }, async (_, number) => {
      const controller = new AbortController();
      const abort = () => controller.abort();
      void (number % 2 === 0 ? setImmediate(abort) : setTimeout(abort, number));
      return acme.unwrap(wrapped, { signal: controller.signal });
    }),
  );
  assert.ok(aborted.some(({ status }) => status === "rejected"));
  assert.equal((await acme.unwrap(wrapped)).key, "orders");
});

test("a gateway that is restarted in mid-flight", async (t) => {
  const other = await Gateway.start(t);
  await other.withTenant("acme", "orders");
  // The same port again after the restart.
  other.environment["CLAVIGER_SERVER__LISTEN"] = other.address;
  const client = other.client({ tenant: "acme", retries: 1000, timeout: 120_000 });
  const { wrapped } = await client.generateDataKey("orders");
  let restarted = false;
  const restart = (async () => {
    await other.end("SIGKILL");
    await wait(200);
    await other.serve();
    restarted = true;
  })();
  let calls = 0;
  for (let after = 0; after < 3; after += Number(restarted)) {
    assert.equal((await client.unwrap(wrapped)).key, "orders");
    await client.createPrincipal(`p${(calls += 1)}`);
  }
  await restart;
  assert.equal((await all(client.listPrincipals())).length, calls);
});
