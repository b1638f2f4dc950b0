/** The client does what openapi/claviger.json says: every operation, parameter, member, word and error code. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { type Call, type Given, makeBatch, makeCall } from "../src/calls.js";
import type { BatchEndpoint, Endpoint } from "../src/endpoints.js";
import { PROBLEM_MEMBERS } from "../src/generated/codes.js";
import * as endpoints from "../src/generated/operations.js";
import * as words from "../src/generated/words.js";
import { Client, ERROR_CODES, ErrorCode, Secret, SecretText } from "../src/index.js";
import { DataKeyOperations } from "../src/operations/data-keys.js";
import { PACKAGE, ROOT } from "./folders.js";

type Json = any;
const DOCUMENT: Json = JSON.parse(readFileSync(path.join(ROOT, "openapi", "claviger.json"), "utf8"));
const SCHEMAS: Json = DOCUMENT.components.schemas;
const OPERATIONS = Object.entries<Json>(DOCUMENT.paths).flatMap(([path, found]) =>
  Object.entries<Json>(found).map(([method, operation]) => ({ id: operation.operationId as string, method: method.toUpperCase(), path, operation })),
);
// The client sets these for all calls, and the iterator the last one.
const OF_THE_CLIENT = ["Claviger-Tenant", "Claviger-Timeout", "Claviger-Justification", "page_token"];

/** Keeps the calls instead of sending them. */
class Recorder extends DataKeyOperations {
  readonly calls: Call<unknown>[] = [];

  protected override async call<Body, Result>(endpoint: Endpoint<Body, Result>, given: Given<Body>, options: { idempotencyKey?: string | undefined }): Promise<Result> {
    this.calls.push(makeCall(endpoint, { ...given, idempotencyKey: options.idempotencyKey }));
    return undefined as Result;
  }

  protected override async *iterate<Item>(endpoint: Endpoint<undefined, { items: readonly Item[] }>, given: Given<undefined>): AsyncGenerator<Item, void, undefined> {
    await this.call(endpoint, given, {});
  }

  protected override async batch<Item, Result>(endpoint: BatchEndpoint<Item, Result>, items: Iterable<Item>): Promise<Result[]> {
    this.calls.push(...makeBatch(endpoint, items).map(({ call }) => call));
    return [];
  }
}

const CONTEXT = { a: "b" };
const RULES = { enabled: true, maxAge: 1000, maxIdle: 1000, maxUses: 1 };
const KEYED = { idempotencyKey: "given" };
const PLAINTEXT = new Uint8Array(1);
/** Each operation with every argument. */
const CALLS: Record<string, (client: Recorder) => unknown> = {
  applyDeclared: (client) => client.applyDeclared(),
  batchGenerateDataKeys: (client) => client.batchGenerateDataKeys([{ key: "k", bytes: 16, context: CONTEXT, plaintext: false }]),
  batchRewrap: (client) => client.batchRewrap([{ key: "k", wrapped: "w", context: CONTEXT, to: "t" }]),
  batchUnwrap: (client) => client.batchUnwrap([{ wrapped: "w", key: "k", context: CONTEXT }]),
  batchWrap: (client) => client.batchWrap([{ key: "k", plaintext: PLAINTEXT, context: CONTEXT }]),
  checkConnection: (client) => client.checkConnection("given-connection"),
  createConnection: (client) => client.createConnection("c", "local", {}, { labels: CONTEXT, timeouts: { attempt: 1000 }, ...KEYED }),
  createKey: (client) => client.createKey("k", "c", { spec: "aes-256", providerKey: "p", labels: CONTEXT, cache: RULES, id: "i", ...KEYED }),
  createPrincipal: (client) => client.createPrincipal("p", { kind: "person", ...KEYED }),
  createTenant: (client) => client.createTenant("t", { id: "i", ...KEYED }),
  createToken: (client) => client.createToken("given-principal", ["Unwrap"], { keys: ["k"], expiresIn: "90d", kind: "standing", ...KEYED }),
  deleteConnection: (client) => client.deleteConnection("given-connection"),
  deleteKey: (client) => client.deleteKey("given-key"),
  deletePrincipal: (client) => client.deletePrincipal("given-principal"),
  deleteToken: (client) => client.deleteToken("given-principal", "given-token"),
  disableKey: (client) => client.disableKey("given-key", { atProvider: true }),
  enableKey: (client) => client.enableKey("given-key", { atProvider: true, ...KEYED }),
  generateDataKey: (client) => client.generateDataKey("given-key", { bytes: 64, context: CONTEXT, plaintext: true }),
  getConnection: (client) => client.getConnection("given-connection"),
  getConnectionCapabilities: (client) => client.getConnectionCapabilities("given-connection"),
  getHealth: (client) => client.getHealth(),
  getKey: (client) => client.getKey("given-key"),
  getMetrics: (client) => client.getMetrics(),
  getOpenapi: (client) => client.getOpenapi(),
  getPrincipal: (client) => client.getPrincipal("given-principal"),
  getReadiness: (client) => client.getReadiness(),
  getTenant: (client) => client.getTenant("given-tenant"),
  inspect: (client) => client.inspect("w", { context: CONTEXT }),
  listConnections: (client) => client.listConnections({ pageSize: 1 }).next(),
  listKeyVersions: (client) => client.listKeyVersions("given-key", { pageSize: 1 }).next(),
  listKeys: (client) => client.listKeys({ connection: "c", state: "detached", label: ["a", "b"], pageSize: 1 }).next(),
  listPrincipals: (client) => client.listPrincipals({ pageSize: 1 }).next(),
  listTenants: (client) => client.listTenants({ pageSize: 1 }).next(),
  listTokens: (client) => client.listTokens("given-principal", { pageSize: 1 }).next(),
  planDeclared: (client) => client.planDeclared(),
  releaseDeclared: (client) => client.releaseDeclared("key", "t", "n"),
  restoreConnection: (client) => client.restoreConnection("given-connection", KEYED),
  resumeTenant: (client) => client.resumeTenant("given-tenant", KEYED),
  rewrap: (client) => client.rewrap("given-key", "w", { context: CONTEXT, to: "t" }),
  rotateKey: (client) => client.rotateKey("given-key", { connection: "c", providerKey: "p", spec: "rsa-3072", ...KEYED }),
  severConnection: (client) => client.severConnection("given-connection"),
  suspendTenant: (client) => client.suspendTenant("given-tenant"),
  unwrap: (client) => client.unwrap("w", { context: CONTEXT }),
  unwrapWithKey: (client) => client.unwrapWithKey("given-key", "w", { context: CONTEXT }),
  updateConnection: (client) => client.updateConnection("given-connection", { labels: CONTEXT, secrets: {}, settings: {}, timeouts: {} }, { etag: "*" }),
  updateKey: (client) => client.updateKey("given-key", { name: "n", labels: CONTEXT, cache: RULES, allowExport: true }, { etag: "*" }),
  whoAmI: (client) => client.whoAmI(),
  wrap: (client) => client.wrap("given-key", PLAINTEXT, { context: CONTEXT }),
};

async function built(id: string): Promise<Call<unknown>> {
  const recorder = new Recorder();
  await CALLS[id]?.(recorder);
  const [call] = recorder.calls;
  assert.ok(call, `${id} makes no call`);
  return call;
}

function resolved(schema: Json): Json {
  return "$ref" in schema ? SCHEMAS[schema.$ref.split("/").at(-1)] : schema;
}

function parameters(operation: Json, place: string): string[] {
  const found: Json[] = (operation.parameters ?? []).map((parameter: Json) => ("$ref" in parameter ? DOCUMENT.components.parameters[parameter.$ref.split("/").at(-1)] : parameter));
  return found.filter((parameter) => parameter.in === place && !OF_THE_CLIENT.includes(parameter.name)).map((parameter) => parameter.name as string);
}

test("what is generated is what the document says", () => {
  const { status, stderr } = spawnSync("python3", [path.join(PACKAGE, "generate.py"), "--check"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("each operation is a method", () => {
  const methods: string[] = [];
  for (let prototype: object = Client.prototype; prototype !== Object.prototype; prototype = Object.getPrototypeOf(prototype)) {
    methods.push(...Object.getOwnPropertyNames(prototype));
  }
  const own = ["constructor", "withOptions", "close", "call", "iterate", "batch"];
  const ids = OPERATIONS.map(({ id }) => id).sort();
  assert.ok(ids.length > 40);
  assert.deepEqual([...new Set(methods)].filter((name) => !own.includes(name)).sort(), ids);
  assert.deepEqual(Object.keys(CALLS).sort(), ids);
});

for (const { id, method, path, operation } of OPERATIONS) {
  test(`a call is what the document says: ${id}`, async () => {
    const call = await built(id);
    assert.equal(call.endpoint, (endpoints as unknown as Record<string, unknown>)[id]);
    assert.equal(call.endpoint.method, method);
    assert.equal(call.path, path.replace(/\{(\w+)\}/g, "given-$1"));
    assert.deepEqual(Object.keys(call.query).sort(), parameters(operation, "query").sort());
    const headers = [...Object.keys(call.headers), ...(call.idempotencyKey === undefined ? [] : ["Idempotency-Key"])];
    assert.deepEqual(headers.sort(), parameters(operation, "header").sort());
    assert.equal(call.endpoint.idempotency, operation["x-idempotency"]);
    assert.equal(call.idempotencyKey !== undefined, call.endpoint.idempotency === "key");
    assert.equal(call.endpoint.credential === false, operation.security?.length === 0);
  });

  test(`a body has the documented members: ${id}`, async () => {
    const { body } = await built(id);
    if (operation.requestBody === undefined) {
      assert.equal(body, undefined);
      return;
    }
    let schema = resolved(operation.requestBody.content["application/json"].schema);
    schema = "oneOf" in schema ? resolved(schema.oneOf[0]) : schema;
    let sent: Json = JSON.parse(body?.toString() ?? "");
    if ("items" in sent) {
      assert.deepEqual(Object.keys(sent), ["items"]);
      [sent, schema] = [sent.items[0], resolved(schema.properties.items.items)];
    }
    assert.deepEqual(Object.keys(sent).sort(), Object.keys(schema.properties).sort());
  });

  test(`a result is of the documented type: ${id}`, () => {
    const { response } = (endpoints as unknown as Record<string, Endpoint<unknown, unknown>>)[id] as Endpoint<unknown, unknown>;
    const [first]: Json[] = Object.values(operation.responses);
    const schema = first.content?.["application/json"]?.schema;
    if (schema === undefined) {
      return;
    }
    const example = resolved(schema).examples?.[0] ?? {};
    const made = response.decode(example, "") as Record<string, unknown>;
    assert.deepEqual(Object.keys(made).map(snake).sort(), Object.keys(example).sort());
    assert.deepEqual(made["extra"] ?? {}, {});
    for (const required of resolved(schema).required ?? []) {
      const { [required]: _, ...rest } = example;
      assert.throws(() => response.decode(rest, ""), new RegExp(`/${required} is not there`));
    }
  });
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

test("words and codes are those of the document", () => {
  for (const [name, of] of Object.entries(words)) {
    assert.deepEqual(Object.values(of), SCHEMAS[name].enum ?? SCHEMAS[name]["x-extensible-enum"]);
  }
  assert.ok(Object.keys(words).length > 25);
  assert.equal(words.ConnectionCircuit.HalfOpen, "half_open");
  assert.equal(words.Spec.Aes256, "aes-256");
  assert.deepEqual(Object.values(ErrorCode), SCHEMAS.ErrorCode["x-extensible-enum"]);
  for (const { code, status, retryable } of SCHEMAS.ErrorCode["x-error-codes"]) {
    assert.deepEqual(ERROR_CODES[code as keyof typeof ERROR_CODES], { status, retryable });
  }
  assert.deepEqual([...PROBLEM_MEMBERS], Object.keys(SCHEMAS.Problem.properties));
});

test("settings of connections are what the document says", () => {
  for (const [provider, ref] of Object.entries<string>(SCHEMAS.CreateConnection.discriminator.mapping)) {
    const [example] = resolved({ $ref: ref }).examples;
    const given = camel({ ...example, labels: undefined, timeouts: undefined });
    const sent = endpoints.createConnection.request?.encode({ ...given, provider }, "");
    assert.deepEqual(sent, JSON.parse(JSON.stringify({ ...example, labels: undefined, timeouts: undefined })));
  }
});

function camel(value: Json): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return value;
  }
  return Object.fromEntries(Object.entries(value).map(([name, of]) => [name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()), camel(of)]));
}

test("secrets are sent wherever they are", () => {
  const token = new SecretText("secret-content");
  const secrets = { token, nested: [{ key: new Secret(new Uint8Array([0, 255])) }], plain: "p", none: null, count: 1 };
  const expected = { token: "secret-content", nested: [{ key: "AP8=" }], plain: "p", none: null, count: 1 };
  assert.deepEqual(endpoints.updateConnection.request?.encode({ secrets }, ""), { secrets: expected });
  const settings = { address: "https://vault.example", auth: { token } };
  const sent = endpoints.createConnection.request?.encode({ name: "v", provider: "vault", settings }, "");
  assert.deepEqual(sent, { name: "v", provider: "vault", settings: { ...settings, auth: { token: "secret-content" } } });
});

test("a null where a member is optional is absent", () => {
  const [example] = SCHEMAS.Key.examples;
  const key = endpoints.getKey.response.decode({ ...example, at_provider: null, managed_by: null }, "");
  assert.ok(!("atProvider" in key));
  assert.equal(key.managedBy, null);
});

test("a result that is given back is sent whole", () => {
  const [example] = SCHEMAS.Key.examples;
  const { cache } = endpoints.getKey.response.decode({ ...example, cache: { max_age: "2m", later: 1 } }, "");
  assert.equal(cache.maxAge, 120_000);
  assert.deepEqual(endpoints.updateKey.request?.encode({ cache, name: undefined }, ""), { cache: { max_age: "120000ms", later: 1 } });
});
