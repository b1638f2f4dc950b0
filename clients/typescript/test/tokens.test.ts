/** The token's sources: text, a function, a file that is replaced. */

import assert from "node:assert/strict";
import { rm, stat, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { inspect } from "node:util";

import { Client, type ClientOptions, SecretText, TokenError, UnauthenticatedError } from "../src/index.js";
import { temporaryFolder } from "./folders.js";
import { JWT, KEY, OTHER_TOKEN, Stub, TOKEN, answer, problem } from "./stub.js";

async function setUp(t: TestContext, options: Partial<ClientOptions> = {}) {
  const stub = await Stub.start(t);
  stub.answers = [answer(200, KEY)];
  const file = path.join(await temporaryFolder(t), "app.token");
  const client = new Client({ address: stub.address, ...("token" in options ? {} : { tokenFile: file }), ...options });
  return { stub, file, client, tokens: () => stub.requests.map((request) => request.token) };
}

test("a replaced token file is used from the next call on", async (t) => {
  const { client, file, tokens } = await setUp(t);
  await writeFile(file, `${TOKEN}\n`);
  await client.getKey("orders");
  const { atime, mtime } = await stat(file);
  await writeFile(file, `${OTHER_TOKEN}\n`);
  // Of the same size and, as on a file system with a coarse clock, of the same time.
  await utimes(file, atime, mtime);
  await client.getKey("orders");
  await writeFile(file, ` ${JWT} `);
  await client.getKey("orders");
  assert.deepEqual(tokens(), [TOKEN, OTHER_TOKEN, JWT]);
});

for (const unfinished of [undefined, "", TOKEN.slice(0, 40), "\n"]) {
  test(`a token file that is being replaced is waited for: ${inspect(unfinished)}`, async (t) => {
    const { client, file, tokens } = await setUp(t);
    if (unfinished !== undefined) {
      await writeFile(file, unfinished);
    }
    const call = client.getKey("orders");
    await wait(100);
    await writeFile(file, TOKEN);
    await call;
    assert.deepEqual(tokens(), [TOKEN]);
  });
}

test("a token that was revoked after it was read", async (t) => {
  const { client, file, stub, tokens } = await setUp(t);
  await writeFile(file, TOKEN);
  const replaced = async () => {
    await writeFile(file, OTHER_TOKEN);
    return problem("unauthenticated", 401);
  };
  stub.answers = [replaced, answer(200, KEY)];
  assert.equal((await client.getKey("orders")).name, "orders");
  assert.deepEqual(tokens(), [TOKEN, OTHER_TOKEN]);
});

test("a rejected token is said", async (t) => {
  const { client, file, stub } = await setUp(t);
  await writeFile(file, TOKEN);
  stub.answers = [problem("unauthenticated", 401)];
  await assert.rejects(client.getKey("orders"), UnauthenticatedError);
  assert.equal(stub.requests.length, 1);
});

for (const content of [undefined, "", "two words", Buffer.from([0xff, 0xfe]), TOKEN.slice(0, 50), "x".repeat(20_000)]) {
  test(`a file without a token is said: ${inspect(content).slice(0, 30)}`, async (t) => {
    const { client, file, stub } = await setUp(t, { timeout: 200 });
    if (content !== undefined) {
      await writeFile(file, content);
    }
    await assert.rejects(client.getKey("orders"), (error: TokenError) => {
      assert.ok(error instanceof TokenError);
      assert.ok(error.detail.includes(file));
      assert.match(error.detail, content === undefined ? /no such file/ : /not whole/);
      assert.match(error.whatToDo ?? "", /^Write the token to the file/);
      assert.deepEqual([error.code, error.status, error.maybeExecuted], ["token_unusable", undefined, false]);
      assert.ok(!inspect(error).includes(TOKEN.slice(0, 50)));
      return true;
    });
    assert.deepEqual(stub.requests, []);
  });
}

test("the file is whole again in the meantime, and else is removed", async (t) => {
  const { client, file } = await setUp(t, { timeout: 200 });
  await writeFile(file, TOKEN);
  await client.getKey("orders");
  await rm(file);
  await assert.rejects(client.getKey("orders"), TokenError);
});

test("a function is asked for each request", async (t) => {
  const given = [TOKEN, new SecretText(JWT), Promise.resolve(OTHER_TOKEN)];
  const { client, tokens } = await setUp(t, { token: () => given.shift() as string });
  for (let call = 0; call < 3; call += 1) {
    await client.getKey("orders");
  }
  assert.deepEqual(tokens(), [TOKEN, JWT, OTHER_TOKEN]);
});

test("what a function throws comes through", async (t) => {
  const gone = new Error("no identity");
  const thrown = async () => Promise.reject(gone);
  await assert.rejects((await setUp(t, { token: thrown })).client.getKey("orders"), gone);
  const { client } = await setUp(t, { token: () => "two\nlines" });
  await assert.rejects(client.getKey("orders"), (error: TokenError) => error instanceof TokenError && !inspect(error).includes("two"));
  await assert.rejects((await setUp(t, { token: () => 5 as never })).client.getKey("orders"), TypeError);
});

test("a client has one source", () => {
  const address = "http://localhost";
  assert.throws(() => new Client({ address }), /one of token and tokenFile/);
  assert.throws(() => new Client({ address, token: TOKEN, tokenFile: "x" }), /one of token and tokenFile/);
  assert.throws(() => new Client({ address, token: 5 as never }), TypeError);
  assert.throws(() => new Client({ address, token: "" }), TokenError);
});
