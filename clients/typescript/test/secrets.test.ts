/** Secrets do not print, and are not serialized by accident. */

import assert from "node:assert/strict";
import { Session } from "node:inspector/promises";
import { test } from "node:test";
import { format, inspect } from "node:util";
import { serialize } from "node:v8";

import { Client, ClavigerError, Secret, SecretText } from "../src/index.js";
import { type Answer, KEY, SECRET, Stub, TOKEN, UNWRAPPED, answer, problem } from "./stub.js";

const FORMS = ["secret-content", SECRET.toString("base64").slice(0, -1), SECRET.toString("hex"), [...SECRET].join(",")];

function assertHidden(shown: string): void {
  for (const form of FORMS) {
    assert.ok(!shown.includes(form), shown);
  }
}

for (const secret of [new Secret(SECRET), new SecretText(SECRET.toString())]) {
  test(`a ${secret.constructor.name} does not print`, () => {
    const shown = [
      String(secret),
      `${secret}`,
      secret + "",
      JSON.stringify({ secret, list: [secret] }),
      inspect(secret),
      inspect([{ secret }], { depth: null, showHidden: true }),
      inspect(secret, { customInspect: false, showHidden: true }),
      format("%s %o %O %j", secret, secret, secret, secret),
      JSON.stringify(Object.entries(secret)),
      serialize({ ...secret }).toString("latin1"),
      JSON.stringify(structuredClone({ secret })),
    ];
    shown.forEach(assertHidden);
    assert.match(shown[0] ?? "", /^Secret(Text)?\(\.\.\.\)$/);
    assert.equal(JSON.stringify(secret), JSON.stringify(String(secret)));
    assert.deepEqual(Reflect.ownKeys(secret), []);
  });
}

for (const secret of [new Secret(SECRET), new SecretText(SECRET.toString())]) {
  test(`a debugger shows a ${secret.constructor.name} without its content`, async (t) => {
    const session = new Session();
    session.connect();
    t.after(() => session.disconnect());
    Object.assign(globalThis, { secret });
    t.after(() => Reflect.deleteProperty(globalThis, "secret"));
    // As its console and its list of variables do.
    const { result } = await session.post("Runtime.evaluate", { expression: "secret", generatePreview: true });
    const of = { objectId: result.objectId ?? "", ownProperties: true, generatePreview: true };
    // Node's types do not know the private ones yet.
    const found = (await session.post("Runtime.getProperties", of)) as unknown as { privateProperties: { name: string; value: { type: string } }[] };
    assert.deepEqual(found.privateProperties.map(({ name, value }) => [name, value.type]), [["#read", "function"]]);
    assertHidden(JSON.stringify([result, found]));
  });
}

test("a secret is compared and exposed", () => {
  const secret = new Secret(SECRET);
  assert.deepEqual(Buffer.from(secret.expose()), SECRET);
  assert.ok(secret.equals(new Secret(Buffer.from("secret-content"))));
  assert.ok(!secret.equals(new Secret(Buffer.from("secret-contend"))));
  assert.ok(!secret.equals(new Secret(Buffer.from("secret"))));
  assert.ok(!new SecretText("a").equals(new Secret(Buffer.from("a")) as unknown as SecretText));
  assert.ok(new SecretText("clé").equals(new SecretText("clé")));
  assert.equal(secret.length, 14);
  assert.equal(new SecretText("t").expose(), "t");
  for (const wrong of ["text", [1], null]) {
    assert.throws(() => new Secret(wrong as unknown as Uint8Array), /Uint8Array/);
  }
  assert.throws(() => new SecretText(SECRET as unknown as string), /string/);
});

test("a secret has bytes of its own", () => {
  const given = Buffer.from(SECRET);
  const secret = new Secret(given);
  given.fill(0);
  assert.deepEqual(Buffer.from(secret.expose()), SECRET);
  // Not a part of the pool that small buffers of the whole process share.
  assert.equal(secret.expose().buffer.byteLength, SECRET.length);
  secret.expose().fill(0);
  assert.deepEqual([...secret.expose()], [...Buffer.alloc(14)]);
});

test("results with secrets do not print", async (t) => {
  const stub = await Stub.start(t);
  stub.answers = [answer(200, { ...UNWRAPPED, later_secret: "secret-content" })];
  const client = new Client({ address: stub.address, token: TOKEN });
  const unwrapped = await client.unwrap("clv1.x");
  assert.equal(unwrapped.plaintext.expose().toString(), [...SECRET].toString());
  assert.deepEqual(unwrapped.extra, { later_secret: "secret-content" });
  for (const shown of [inspect(unwrapped, { depth: null }), JSON.stringify(unwrapped), JSON.stringify({ ...unwrapped })]) {
    assert.match(shown, /orders/);
    assertHidden(shown);
  }
  const shown = inspect(client, { depth: null, showHidden: true }) + JSON.stringify(client) + String(client);
  assert.match(shown, /127\.0\.0\.1/);
  assert.ok(!shown.includes(TOKEN.slice(17)));
});

test("the pool of small buffers keeps no data key", async (t) => {
  const stub = await Stub.start(t);
  // Not by way of a Buffer, which would be in the pool itself.
  const content = crypto.getRandomValues(new Uint8Array(24));
  stub.answers = [answer(200, { ...UNWRAPPED, plaintext: btoa(String.fromCharCode(...content)) })];
  const { plaintext } = await new Client({ address: stub.address, token: TOKEN }).unwrap("clv1.x");
  assert.deepEqual([...plaintext.expose()], [...content]);
  const pool = Buffer.from(Buffer.from("QUFBQQ==", "base64").buffer);
  assert.ok(pool.length > 1000);
  assert.equal(pool.indexOf(content), -1);
});

const given: Record<string, Answer> = {
  "a member of another type": answer(200, { ...UNWRAPPED, version: "not a number" }),
  "base64 without padding": answer(200, { ...UNWRAPPED, plaintext: "c2VjcmV0LWNvbnRlbnQ" }),
  "JSON that ends early": answer(200, '{"plaintext": "c2VjcmV0LWNvbnRlbnQ='),
  "a truncated answer": answer(200, UNWRAPPED, { length: 4000 }),
  "a problem": problem("ciphertext_rejected", 422, { later_secret: "secret-content" }),
  "a page": answer(200, "<html>", { kind: "text/html" }),
  "no answer": null,
};
for (const [name, response] of Object.entries(given)) {
  test(`an error shows no secret: ${name}`, async (t) => {
    const stub = await Stub.start(t);
    stub.answers = [response];
    const client = new Client({ address: stub.address, token: TOKEN, retries: 0 });
    const call = response === null ? client.wrap("orders", SECRET) : client.unwrap("clv1.x");
    await assert.rejects(call, (error: ClavigerError) => {
      assert.ok(error instanceof ClavigerError);
      assert.equal(error.cause, undefined);
      const shown = `${inspect(error, { depth: null })}${error.stack}${JSON.stringify(error)}${error}`;
      assertHidden(shown);
      assert.ok(!shown.includes(TOKEN.slice(17)));
      return true;
    });
  });
}

test("an unknown member of a result stays out of logs", async (t) => {
  const stub = await Stub.start(t);
  stub.answers = [answer(200, { ...KEY, later_secret: "secret-content" })];
  const key = await new Client({ address: stub.address, token: TOKEN }).getKey("orders");
  assert.deepEqual(key.extra, { later_secret: "secret-content" });
  assertHidden(inspect(key, { depth: null }));
});
