/** Encrypted files: streams, files that are replaced, and memory. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, link, mkdir, readFile, readdir, readlink, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { decrypt, decryptFile, encrypt, encryptFile } from "../src/files.js";
import { CiphertextRejectedError, FileDamagedError, FileError, FileTruncatedError } from "../src/index.js";
import { temporaryFolder } from "./folders.js";
import { Gateway } from "./gateway.js";
import { pattern } from "./vectors.js";

const gateway = await Gateway.start();
const acme = await gateway.withTenant("acme", "orders");
const CONTENT = pattern(100_000);
const CONTEXT = { table: "orders" };

/** Paths in a folder of their own. */
async function paths(test: Parameters<typeof temporaryFolder>[0]) {
  const folder = await temporaryFolder(test);
  const of = (name: string) => path.join(folder, name);
  await writeFile(of("plain"), CONTENT);
  await encryptFile(acme, "orders", of("plain"), of("encrypted"), { context: CONTEXT });
  return { folder, of, plain: of("plain"), encrypted: of("encrypted") };
}

async function mode(file: string): Promise<number> {
  return (await stat(file)).mode & 0o777;
}

test("files", async (t) => {
  const { folder, of, plain, encrypted } = await paths(t);
  await decryptFile(acme, encrypted, of("again"), { context: CONTEXT });
  assert.ok((await readFile(of("again"))).equals(CONTENT));
  assert.deepEqual([await mode(encrypted), await mode(of("again"))], [0o600, 0o600]);
  // The same file, as a URL, whose mode stays.
  await chmod(plain, 0o640);
  const url = pathToFileURL(plain);
  await encryptFile(acme, "orders", url, url);
  assert.equal(await mode(plain), 0o640);
  assert.equal((await readFile(plain)).toString("latin1", 0, 3), "CLF");
  await decryptFile(acme, url, url, { key: "orders" });
  assert.ok((await readFile(plain)).equals(CONTENT));
  assert.deepEqual((await readdir(folder)).sort(), ["again", "encrypted", "plain"]);
});

test("a symbolic link stays one", async (t) => {
  const { of, encrypted } = await paths(t);
  await mkdir(of("below"));
  await writeFile(of("below/target"), "before");
  await symlink("below/target", of("link"));
  await symlink("below/new", of("dangling"));
  for (const [name, target] of [["link", "below/target"], ["dangling", "below/new"]] as const) {
    await decryptFile(acme, encrypted, of(name), { context: CONTEXT });
    assert.equal(await readlink(of(name)), target);
    assert.ok((await readFile(of(target))).equals(CONTENT));
  }
  assert.deepEqual((await readdir(of("below"))).sort(), ["new", "target"]);
});

test("a bad file leaves the target as it was", async (t) => {
  const { folder, of, encrypted } = await paths(t);
  await writeFile(of("target"), "before");
  const whole = await readFile(encrypted);
  for (const bad of [whole.subarray(0, 100), whole.subarray(0, -1), whole.subarray(0, -CONTENT.length % 16_384), Buffer.concat([whole, Buffer.alloc(1)])]) {
    await writeFile(of("bad"), bad);
    await assert.rejects(decryptFile(acme, of("bad"), of("target"), { context: CONTEXT }), FileError);
    await assert.rejects(decryptFile(acme, of("bad"), of("new"), { context: CONTEXT }), FileError);
  }
  await assert.rejects(decryptFile(acme, encrypted, of("target")), CiphertextRejectedError);
  assert.equal(await readFile(of("target"), "utf8"), "before");
  assert.deepEqual((await readdir(folder)).sort(), ["bad", "encrypted", "plain", "target"]);
});

test("a target is not there before the end", async (t) => {
  const { folder, of, encrypted } = await paths(t);
  const whole = await readFile(encrypted);
  const seen: string[][] = [];
  const { replaceFile } = await import("../src/new-file.js");
  await replaceFile(
    of("new"),
    (async function* () {
      for await (const piece of decrypt(acme, [whole], { context: CONTEXT })) {
        seen.push(await readdir(folder));
        yield piece;
      }
    })(),
  );
  assert.ok(seen.length > 3);
  assert.ok(seen.every((names) => !names.includes("new") && names.some((name) => name.startsWith(".claviger-"))));
  assert.ok((await readFile(of("new"))).equals(CONTENT));
});

test("paths that cannot be used", async (t) => {
  const { folder, of, plain } = await paths(t);
  await mkdir(of("folder"));
  await assert.rejects(encryptFile(acme, "orders", plain, of("folder")), /not a regular file/);
  await assert.rejects(encryptFile(acme, "orders", plain, "/dev/null"), /not a regular file/);
  await assert.rejects(encryptFile(acme, "orders", plain, of("missing/target")), { code: "ENOENT" });
  await assert.rejects(encryptFile(acme, "orders", of("missing"), of("target")), { code: "ENOENT" });
  await assert.rejects(decryptFile(acme, of("missing"), plain), { code: "ENOENT" });
  await assert.rejects(encryptFile(acme, "orders", of("folder"), plain), { code: "EISDIR" });
  assert.ok((await readFile(plain)).equals(CONTENT));
  assert.deepEqual((await readdir(folder)).sort(), ["encrypted", "folder", "plain"]);
});

test("a hard link keeps the old content", async (t) => {
  const { of, plain } = await paths(t);
  await link(plain, of("other"));
  await encryptFile(acme, "orders", plain, plain);
  assert.ok((await readFile(of("other"))).equals(CONTENT));
});

test("streams of Node and of the Web", async (t) => {
  const { of, plain } = await paths(t);
  await pipeline(encrypt(acme, "orders", createReadStream(plain)), createWriteStream(of("piped")));
  // As a step of a pipeline.
  const chunks: Buffer[] = [];
  await pipeline(createReadStream(of("piped")), (source) => decrypt(acme, source), async (source) => {
    for await (const chunk of source) {
      chunks.push(chunk as Buffer);
    }
  });
  assert.ok(Buffer.concat(chunks).equals(CONTENT));
  const web = new Blob([CONTENT]).stream();
  const response = new Response(Readable.toWeb(Readable.from(encrypt(acme, "orders", web))) as ReadableStream);
  const opened: Uint8Array[] = [];
  for await (const piece of decrypt(acme, response.body as ReadableStream<Uint8Array>)) {
    opened.push(piece);
  }
  assert.ok(Buffer.concat(opened).equals(CONTENT));
});

test("a stream gives what is there", async () => {
  const source = new PassThrough();
  const encrypted = encrypt(acme, "orders", source);
  const begun = encrypted.next();
  source.write(CONTENT.subarray(0, 40_000));
  const pieces = [await begun, await encrypted.next(), await encrypted.next(), await encrypted.next()];
  // Header, salt with commitment, and two chunks, while the source has not ended.
  assert.deepEqual(pieces.slice(1).map(({ value }) => value?.length), [56, 16_400, 16_400]);
  source.end();
  const rest = [];
  for await (const piece of encrypted) {
    rest.push(piece);
  }
  const all = Buffer.concat([...pieces.map(({ value }) => value as Uint8Array), ...rest]);
  for (const part of [all.subarray(0, -1), all.subarray(0, -(40_000 % 16_384) - 16)]) {
    const opened = decrypt(acme, [part]);
    assert.equal((await opened.next()).value?.length, 16_384);
    assert.equal((await opened.next()).value?.length, 16_384);
    await assert.rejects(opened.next(), part.length === all.length - 1 ? FileDamagedError : FileTruncatedError);
  }
});

test("what ends early ends its source", async () => {
  const source = new PassThrough();
  source.write(CONTENT);
  const encrypted = encrypt(acme, "orders", source);
  await encrypted.next();
  await encrypted.return();
  assert.ok(source.destroyed);
  const refused = new PassThrough();
  refused.write("not a file of Claviger");
  await assert.rejects(decrypt(acme, refused).next(), FileError);
  assert.ok(refused.destroyed);
  const missing = new PassThrough();
  missing.write(CONTENT);
  await assert.rejects(encrypt(acme, "no-such-key", missing).next());
  assert.ok(missing.destroyed);
});

test("a source that fails", async (t) => {
  const { of } = await paths(t);
  const lost = new Error("lost");
  async function* source() {
    yield CONTENT;
    throw lost;
  }
  await assert.rejects(pipeline(encrypt(acme, "orders", source()), new PassThrough().resume()), lost);
  await assert.rejects(pipeline(decrypt(acme, source()), new PassThrough().resume()), FileError);
  // Without a listener its error would end the process.
  await assert.rejects(encrypt(acme, "orders", createReadStream(of("missing"))).next(), { code: "ENOENT" });
  await assert.rejects(decrypt(acme, createReadStream(of("missing"))).next(), { code: "ENOENT" });
});

test("a target that is full", async () => {
  const full = createWriteStream("/dev/full");
  await assert.rejects(pipeline(encrypt(acme, "orders", [CONTENT, CONTENT]), full), { code: "ENOSPC" });
});

/** Encrypts and decrypts a content of so many MiB, and prints the most memory that the process had, in KiB. */
async function memory(megabytes: number): Promise<number> {
  const program = `
    import { createHash } from "node:crypto";
    import { decrypt, encrypt } from "${new URL("../src/files.js", import.meta.url)}";
    import { Client } from "${new URL("../src/index.js", import.meta.url)}";
    const client = Client.fromEnv();
    const piece = Buffer.alloc(1 << 20, "content");
    const given = createHash("sha256");
    async function* source() {
      for (let count = 0; count < ${megabytes}; count += 1) {
        given.update(piece);
        yield piece;
      }
    }
    const found = createHash("sha256");
    for await (const opened of decrypt(client, encrypt(client, "orders", source()))) {
      found.update(opened);
    }
    if (given.digest("hex") !== found.digest("hex")) {
      throw new Error("another content");
    }
    console.log(process.resourceUsage().maxRSS);
  `;
  const variables = { CLAVIGER_ADDRESS: `http://${gateway.address}`, CLAVIGER_TOKEN_FILE: gateway.tokenFile, CLAVIGER_TENANT: "acme" };
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { env: { ...process.env, ...variables }, stdio: ["ignore", "pipe", "inherit"] });
  const printed: Buffer[] = [];
  child.stdout.on("data", (data: Buffer) => printed.push(data));
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  return Number(Buffer.concat(printed));
}

test("memory is constant", async () => {
  const [little, much] = [await memory(16), await memory(256)];
  assert.ok(much < little + 64 * 1024, `${much} KiB with 256 MiB, ${little} KiB with 16 MiB`);
});
