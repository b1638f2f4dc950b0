/** Batches are cut to the API's bounds, and come together again in order. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { makeBatch } from "../src/calls.js";
import * as endpoints from "../src/generated/operations.js";
import { Client, ClavigerError, type FailedItem, RateLimitedError, Secret, UnexpectedResponseError, type UnwrappedItem } from "../src/index.js";
import { Stub, type StubRequest, TOKEN, answer, problem } from "./stub.js";

const ERROR = { code: "ciphertext_rejected", detail: "D.", title: "T", type: "t", status: 422, request_id: "r", retryable: false };

/** Unwraps each wrapped key to itself, and refuses those that say so. */
function results(request: StubRequest): object[] {
  return request.json.items.map(({ wrapped }) =>
    wrapped.startsWith("bad") ? { error: ERROR, audit_index: "log#1" } : { key: wrapped, plaintext: "", version: 1, cached: false, later: true },
  );
}

function echo(request: StubRequest): Buffer {
  return answer(200, { items: results(request) });
}

const isFailed = (item: UnwrappedItem | FailedItem): item is FailedItem => item.error !== undefined;

test("items are cut by their number", async (t) => {
  const stub = await Stub.start(t);
  stub.answers = [echo];
  const names = Array.from({ length: 2500 }, (_, number) => (number % 500 === 7 ? `bad${number}` : `n${number}`));
  const generated = (function* () {
    for (const wrapped of names) {
      yield { wrapped };
    }
  })();
  const items = await new Client({ address: stub.address, token: TOKEN }).batchUnwrap(generated);
  assert.deepEqual(stub.requests.map((request) => request.json.items.length), [1000, 1000, 500]);
  assert.deepEqual(items.map((item) => (isFailed(item) ? item.error.code : item.key)), names.map((name) => (name.startsWith("bad") ? ERROR.code : name)));
  assert.deepEqual(items[0]?.extra, { later: true });
  const failed = items[7];
  assert.ok(failed?.error instanceof ClavigerError);
  assert.deepEqual([failed.error.status, failed.auditIndex], [422, "log#1"]);
});

test("items are cut by their bytes", () => {
  const large = { wrapped: "w".repeat(22 << 10) };
  const parts = makeBatch(endpoints.batchUnwrap, Array<typeof large>(1000).fill(large));
  const sizes = parts.map(({ call }) => call.body?.length ?? 0);
  assert.equal(parts.length, 2);
  assert.ok(sizes.every((size) => size <= 16 << 20));
  // The next item would not have fitted.
  assert.ok((sizes[0] ?? 0) + JSON.stringify(large).length + 1 > 16 << 20);
  const contents = parts.map(({ call }) => JSON.parse(call.body?.toString() ?? "").items.length as number);
  assert.deepEqual(contents, parts.map(({ size }) => size));
  assert.equal(contents.reduce((sum, size) => sum + size), 1000);
});

test("a body may be exactly as large as the limit", () => {
  // A character of several bytes counts as these.
  const items = Array(4).fill({ wrapped: "wé".repeat(25) });
  const counts = (mostBytes: number) => makeBatch({ ...endpoints.batchUnwrap, mostBytes }, items).map(({ size }) => size);
  const size = makeBatch(endpoints.batchUnwrap, items)[0]?.call.body?.length ?? 0;
  assert.deepEqual(counts(size), [4]);
  assert.deepEqual(counts(size - 1), [3, 1]);
  // One item that is too large goes out alone, and the gateway says so.
  assert.deepEqual(counts(10), [1, 1, 1, 1]);
});

test("no items are no request", async () => {
  assert.deepEqual(makeBatch(endpoints.batchUnwrap, []), []);
  assert.deepEqual(await new Client({ address: "http://127.0.0.1:1", token: TOKEN }).batchUnwrap([]), []);
  const [part] = makeBatch(endpoints.batchWrap, [{ key: "k", plaintext: new Uint8Array([0, 255]) }]);
  assert.equal(part?.call.body?.toString(), '{"items":[{"key":"k","plaintext":"AP8="}]}');
});

test("text is no plaintext", () => {
  // It would pass for base64, and other bytes would be wrapped.
  for (const plaintext of ["abcd", null, undefined, { expose: () => "abcd" }] as never[]) {
    assert.throws(() => makeBatch(endpoints.batchWrap, [{ key: "k", plaintext: new Secret(new Uint8Array(1)) }, { key: "k", plaintext }]), /\/items\/1\/plaintext/);
  }
});

test("a request that fails as a whole", async (t) => {
  const stub = await Stub.start(t);
  stub.answers = [echo, problem("rate_limited", 429, { retryable: true })];
  const client = new Client({ address: stub.address, token: TOKEN, retries: 0 });
  await assert.rejects(client.batchUnwrap(Array.from({ length: 1500 }, (_, number) => ({ wrapped: `n${number}` }))), (error: RateLimitedError) => {
    assert.ok(error instanceof RateLimitedError);
    assert.equal(error.results.length, 1000);
    assert.equal((error.results[999] as UnwrappedItem).key, "n999");
    return true;
  });
  stub.answers = [(request) => answer(200, { items: results(request).slice(1) })];
  await assert.rejects(client.batchUnwrap([{ wrapped: "n" }, { wrapped: "m" }]), (error: UnexpectedResponseError) => {
    assert.ok(error instanceof UnexpectedResponseError);
    assert.match(error.message, /not one result for each item/);
    return true;
  });
  stub.answers = [answer(200, { items: [{ key: "n" }] })];
  await assert.rejects(client.batchUnwrap([{ wrapped: "n" }]), /\/items\/0\/cached is not there/);
});
