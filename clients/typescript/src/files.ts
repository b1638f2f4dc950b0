/**
 * Encrypted files: `docs/file-format.md`.
 *
 * ```ts
 * import { Client } from "@claviger/client";
 * import { decryptFile, encryptFile } from "@claviger/client/files";
 *
 * const claviger = Client.fromEnv();
 * await encryptFile(claviger, "orders", "report.pdf", "report.pdf.clv", { context: { table: "orders" } });
 * await decryptFile(claviger, "report.pdf.clv", "report.pdf", { context: { table: "orders" } });
 * ```
 *
 * Each file has a data key of its own, which is in its header, wrapped: each function makes one call to the gateway.
 * Contents of any length are read and written piece by piece, in constant memory.
 *
 * A file that does not open is a subclass of `FileError`. What the gateway answers is thrown as by the client's methods,
 * and the errors of sources and of the file system come through.
 */

import { createReadStream } from "node:fs";
import { fileURLToPath } from "node:url";

import type { Client } from "./client.js";
import { DATA_KEY, Pulled, type Source, makeHeader, openContent, readHeader, readSalt, sealContent } from "./file-format.js";
import { replaceFile } from "./new-file.js";
import type { CallOptions } from "./operations/caller.js";

export type { Source } from "./file-format.js";

/** Options of an encryption. */
export interface EncryptOptions extends CallOptions {
  /** Binds the file to pairs of text, which a decryption must repeat exactly. It is not secret. */
  readonly context?: Readonly<Record<string, string>> | undefined;
}

/** Options of a decryption. */
export interface DecryptOptions extends CallOptions {
  /** As on encryption. */
  readonly context?: Readonly<Record<string, string>> | undefined;
  /** The name of the key, if no other one may open the file. */
  readonly key?: string | undefined;
}

// Of a read of a file, in bytes. Larger ones make it no faster.
const PIECE = 1 << 18;

/**
 * Returns the encrypted file piece by piece. The data key is generated once the source has given something.
 *
 * The key is the name of the one that wraps the file's data key. A source gives its bytes in any pieces: a stream of Node
 * or of the Web, an async iterable, or an iterable. It is ended if this iteration is.
 */
export async function* encrypt(
  client: Client,
  key: string,
  source: Source,
  options: EncryptOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const { context, signal } = options;
  const pulled = new Pulled(source, signal);
  try {
    await pulled.begin();
    const { wrapped, plaintext } = await client.generateDataKey(key, { context, bytes: DATA_KEY, signal });
    const header = makeHeader(wrapped);
    yield header;
    yield* sealContent(plaintext, header, pulled);
  } finally {
    await pulled.end();
  }
}

/**
 * Returns the content of an encrypted file piece by piece. Each piece is authenticated.
 *
 * A file that was cut or changed further on throws an error where that is, after the pieces before it. So do not act on
 * them before the iteration has ended.
 */
export async function* decrypt(client: Client, source: Source, options: DecryptOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  const { context, key, signal } = options;
  const pulled = new Pulled(source, signal);
  try {
    const { header, wrapped } = await readHeader(pulled);
    const salt = await readSalt(pulled);
    const unwrapped = key === undefined ? client.unwrap(wrapped, { context, signal }) : client.unwrapWithKey(key, wrapped, { context, signal });
    yield* openContent((await unwrapped).plaintext, header, salt, pulled);
  } finally {
    await pulled.end();
  }
}

/**
 * Encrypts the file `source` into the file `target`. Both may be the same.
 *
 * Until all of it is written and synced, the result is in a temporary file in the target's folder; then it takes the
 * target's place. If anything fails, the target is as before. A new target can be read and written by its owner only
 * (mode 0600); an existing one keeps its mode, and must be a regular file.
 */
export async function encryptFile(
  client: Client,
  key: string,
  source: string | URL,
  target: string | URL,
  options: EncryptOptions = {},
): Promise<void> {
  await replaceFile(pathOf(target), encrypt(client, key, read(source), options));
}

/**
 * Decrypts the file `source` into the file `target`, which is replaced only when all of it is authenticated. See
 * `encryptFile` for the target.
 */
export async function decryptFile(client: Client, source: string | URL, target: string | URL, options: DecryptOptions = {}): Promise<void> {
  await replaceFile(pathOf(target), decrypt(client, read(source), options));
}

/** The content of a file, which is opened when the iteration begins. */
async function* read(file: string | URL): AsyncGenerator<Uint8Array, void, undefined> {
  yield* createReadStream(file, { highWaterMark: PIECE });
}

function pathOf(file: string | URL): string {
  return file instanceof URL ? fileURLToPath(file) : file;
}
