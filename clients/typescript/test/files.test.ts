/** Encrypted files: the vectors, and what a gateway's keys encrypt. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";

import { Pulled, chunkNonce, sealContent } from "../src/file-format.js";
import { type Source, decrypt, encrypt } from "../src/files.js";
import {
  CiphertextRejectedError,
  Client,
  type ClavigerError,
  FileDamagedError,
  FileError,
  FileHeaderMismatchError,
  FileTruncatedError,
  FileUnrecognizedError,
  FileVersionError,
  InvalidEnvelopeError,
  KeyUnusableError,
  Secret,
  UnexpectedResponseError,
} from "../src/index.js";
import { temporaryFolder } from "./folders.js";
import { Gateway } from "./gateway.js";
import { Stub, TOKEN, answer } from "./stub.js";
import { BAD, GOOD, joined, pattern } from "./vectors.js";

const CLASSES: Record<string, typeof FileError> = {
  file_unrecognized: FileUnrecognizedError,
  file_version_unsupported: FileVersionError,
  file_truncated: FileTruncatedError,
  file_header_mismatch: FileHeaderMismatchError,
  file_damaged: FileDamagedError,
};
const CONTEXT = { table: "orders" };

const gateway = await Gateway.start();
const acme = await gateway.withTenant("acme", "orders");

/** Collects the pieces of an iteration. What came before an error is in `pieces`. */
async function collect(iteration: AsyncIterable<Uint8Array>, pieces: Uint8Array[] = []): Promise<Buffer> {
  for await (const piece of iteration) {
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function sliced(data: Uint8Array, size: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(data.length / size) }, (_, number) => data.subarray(number * size, (number + 1) * size));
}

/** A client of a gateway that unwraps everything to this. */
async function unwrapping(t: TestContext, k: Buffer) {
  const stub = await Stub.start(t);
  stub.answers = [answer(200, { plaintext: k.toString("base64"), key: "orders", version: 1, cached: false })];
  return { stub, client: new Client({ address: stub.address, token: TOKEN }) };
}

/** The length of what is before the salt. */
function headerLength(file: Buffer): number {
  return 8 + file.readUInt32BE(4);
}

for (const [name, vector] of GOOD) {
  const file = Buffer.from(vector.file, "base64");

  test(`a good vector opens: ${name}`, async (t) => {
    const { client, stub } = await unwrapping(t, Buffer.from(vector.k, "hex"));
    for (const size of [1, 7, 1000, 16_383, 16_384, 16_400, 1 << 20]) {
      const content = await collect(decrypt(client, sliced(file, size), { context: CONTEXT }));
      assert.equal(content.length, vector.plaintext_length);
      assert.equal(createHash("sha256").update(content).digest("hex"), vector.plaintext_sha256);
    }
    const envelope = file.subarray(8, headerLength(file));
    assert.deepEqual(stub.requests[0]?.json, { wrapped: `clv1.${envelope.toString("base64url")}`, context: CONTEXT });
  });

  test(`an encryption with its key and salt is the vector: ${name}`, async () => {
    const header = file.subarray(0, headerLength(file));
    const salt = file.subarray(header.length, header.length + 24);
    for (const size of [5000, 16_384, 1 << 20]) {
      const source = new Pulled(sliced(pattern(vector.plaintext_length), size));
      const sealed = await collect(sealContent(new Secret(Buffer.from(vector.k, "hex")), header, source, salt));
      assert.ok(Buffer.concat([header, sealed]).equals(file));
    }
  });
}

for (const [name, vector] of BAD) {
  test(`a bad vector is refused: ${name}`, async (t) => {
    const { client } = await unwrapping(t, Buffer.from(vector.k, "hex"));
    for (const size of [1000, 1 << 20]) {
      const pieces: Uint8Array[] = [];
      await assert.rejects(collect(decrypt(client, sliced(joined(vector.pieces), size)), pieces), (error: FileError) => {
        assert.ok(error instanceof FileError);
        assert.equal(error.code, vector.error);
        assert.equal(error.constructor, CLASSES[vector.error]);
        assert.ok(error.whatToDo);
        assert.deepEqual([error.isRetryable, error.status], [false, undefined]);
        return true;
      });
      const given = Buffer.concat(pieces);
      assert.ok(given.length <= vector.authenticated_length);
      assert.ok(given.equals(pattern(given.length)));
    }
  });
}

test("there are vectors of each error", () => {
  assert.deepEqual(new Set([...BAD.values()].map(({ error }) => error)), new Set(Object.keys(CLASSES)));
  assert.ok(GOOD.size >= 6);
});

test("the nonce of a chunk", () => {
  const base = Buffer.from("0102030405060708090a0bff", "hex");
  const of = (number: number) => chunkNonce(base, number).toString("hex");
  assert.equal(of(0), base.toString("hex"));
  assert.equal(of(1), "0102030405060708090a0bfe");
  assert.equal(of(0xffffffff), "0102030405060708f6f5f400");
  assert.equal(of(2 ** 32 + 1), "0102030405060709090a0bfe");
  assert.equal(of(2 ** 38 - 1), "0102030405060737f6f5f400");
});

test("a large length is refused before more is read", async () => {
  function* source() {
    yield Buffer.from("434c4601ffffffff", "hex");
    throw new Error("read on");
  }
  await assert.rejects(collect(decrypt(acme, source())), FileDamagedError);
});

for (const length of [0, 1, 16_383, 16_384, 16_385, 100_000]) {
  test(`a content of ${length} bytes goes round`, async () => {
    const encrypted = await collect(encrypt(acme, "orders", sliced(pattern(length), 9000), { context: CONTEXT }));
    const chunks = Math.floor(length / 16_384) + 1;
    assert.equal(encrypted.length, headerLength(encrypted) + 56 + length + 16 * chunks);
    assert.ok((await collect(decrypt(acme, [encrypted], { context: CONTEXT, key: "orders" }))).equals(pattern(length)));
  });
}

test("the command line opens it, and the other way round", async (t) => {
  const folder = await temporaryFolder(t);
  const content = pattern(50_000);
  const [plain, encrypted, again] = ["plain", "encrypted", "again"].map((name) => path.join(folder, name)) as [string, string, string];
  const variables = { CLAVIGER_ADDRESS: `http://${gateway.address}`, CLAVIGER_TOKEN_FILE: gateway.tokenFile, CLAVIGER_TENANT: "acme" };
  const claviger = async (...words: string[]) => {
    await promisify(execFile)(gateway.binary, [...words, "--context", "table=orders"], { env: { ...process.env, ...variables } });
  };
  await writeFile(encrypted, encrypt(acme, "orders", [content], { context: CONTEXT }));
  await claviger("decrypt", "--in", encrypted, "--out", plain);
  assert.ok((await readFile(plain)).equals(content));
  await claviger("encrypt", "orders", "--in", plain, "--out", again);
  assert.ok((await collect(decrypt(acme, [await readFile(again)], { context: CONTEXT }))).equals(content));
});

test("each file has its own key and salt", async () => {
  const files = await Promise.all(Array.from({ length: 3 }, () => collect(encrypt(acme, "orders", []))));
  const envelopes = files.map((file) => file.toString("hex", 8, headerLength(file)));
  const salts = files.map((file) => file.toString("hex", headerLength(file), headerLength(file) + 24));
  assert.equal(new Set(envelopes).size, 3);
  assert.equal(new Set(salts).size, 3);
});

test("another context, key or state of the key", async () => {
  await acme.createKey("other", "embedded");
  const encrypted = await collect(encrypt(acme, "other", [pattern(10)], { context: CONTEXT }));
  await assert.rejects(collect(decrypt(acme, [encrypted])), CiphertextRejectedError);
  await assert.rejects(collect(decrypt(acme, [encrypted], { context: CONTEXT, key: "orders" })), CiphertextRejectedError);
  await acme.disableKey("other");
  await assert.rejects(collect(decrypt(acme, [encrypted], { context: CONTEXT })), KeyUnusableError);
  await assert.rejects(collect(encrypt(acme, "other", [])), KeyUnusableError);
});

test("an envelope that is none", async () => {
  const none = Buffer.concat([Buffer.from("434c460100000004", "hex"), Buffer.from("none"), Buffer.alloc(72)]);
  await assert.rejects(collect(decrypt(acme, [none])), InvalidEnvelopeError);
});

test("a rewrapped key has no place in the file", async () => {
  await acme.createKey("rotated", "embedded");
  const encrypted = await collect(encrypt(acme, "rotated", [pattern(10)]));
  const end = headerLength(encrypted);
  await acme.rotateKey("rotated");
  const { wrapped, changed } = await acme.rewrap("rotated", `clv1.${encrypted.toString("base64url", 8, end)}`);
  assert.ok(changed);
  const envelope = Buffer.from(wrapped.slice(5), "base64url");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(envelope.length);
  const file = [encrypted.subarray(0, 4), length, envelope, encrypted.subarray(end)];
  await assert.rejects(collect(decrypt(acme, file)), FileHeaderMismatchError);
  assert.ok((await collect(decrypt(acme, [encrypted]))).equals(pattern(10)));
});

const WRAPPED = `clv1.${Buffer.from("CLV\x01 and more").toString("base64url")}`;
for (const [name, changes] of Object.entries({
  "a short data key": { plaintext: Buffer.alloc(16).toString("base64") },
  "no data key": { plaintext: undefined },
  "another version": { wrapped: `clv1.${Buffer.from("CLV\x02 and more").toString("base64url")}` },
  "another prefix": { wrapped: WRAPPED.replace("clv1", "clv2") },
  "no base64": { wrapped: `${WRAPPED}=` },
  "too long": { wrapped: `${WRAPPED}${"A".repeat(22_000)}` },
})) {
  test(`a data key that cannot be used: ${name}`, async (t) => {
    const stub = await Stub.start(t);
    const good = { key: "orders", version: 1, wrapped: WRAPPED, plaintext: Buffer.alloc(32).toString("base64") };
    const client = new Client({ address: stub.address, token: TOKEN });
    stub.answers = [answer(200, good)];
    assert.equal((await collect(encrypt(client, "orders", []))).length, 8 + 13 + 56 + 16);
    stub.answers = [answer(200, { ...good, ...changes })];
    await assert.rejects(collect(encrypt(client, "orders", [])), UnexpectedResponseError);
  });
}

test("a source may use its buffer again", async () => {
  const content = pattern(70_001);
  async function* source(of: Uint8Array) {
    const buffer = Buffer.alloc(10_000);
    for (const piece of sliced(of, buffer.length)) {
      buffer.set(piece);
      yield buffer.subarray(0, piece.length);
      buffer.fill(0);
    }
  }
  const encrypted = await collect(encrypt(acme, "orders", source(content)));
  assert.ok((await collect(decrypt(acme, source(encrypted)))).equals(content));
});

test("sources that are none", async () => {
  for (const source of ["path", pattern(10), ["text"], 5, {}] as unknown as Source[]) {
    await assert.rejects(collect(encrypt(acme, "orders", source)), /instead of bytes/);
    await assert.rejects(collect(decrypt(acme, source)), /instead of bytes/);
  }
});

test("a signal ends it", async () => {
  const encrypted = await collect(encrypt(acme, "orders", [pattern(50_000)]));
  const controller = new AbortController();
  const reason = new Error("no longer wanted");
  async function* source() {
    yield encrypted.subarray(0, 40_000);
    controller.abort(reason);
    yield encrypted.subarray(40_000);
  }
  const pieces: Uint8Array[] = [];
  await assert.rejects(collect(decrypt(acme, source(), { signal: controller.signal }), pieces), reason);
  await assert.rejects(collect(encrypt(acme, "orders", [], { signal: AbortSignal.abort(reason) })), reason);
});

test("an error shows no plaintext", async () => {
  const encrypted = await collect(encrypt(acme, "orders", [Buffer.from("secret-content")]));
  encrypted[encrypted.length - 1] = (encrypted.at(-1) ?? 0) ^ 1;
  await assert.rejects(collect(decrypt(acme, [encrypted])), (error: ClavigerError) => {
    assert.ok(error instanceof FileDamagedError);
    assert.ok(!`${error.stack}${JSON.stringify(error)}`.includes("secret"));
    return true;
  });
});
