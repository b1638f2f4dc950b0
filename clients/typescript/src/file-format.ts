/** Encrypted files, as docs/file-format.md describes them. */

import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

import {
  FileDamagedError,
  type FileError,
  FileHeaderMismatchError,
  FileTruncatedError,
  FileUnrecognizedError,
  FileVersionError,
  UnexpectedResponseError,
} from "./errors.js";
import type { Secret } from "./secrets.js";

const MAGIC = Buffer.from("CLF");
const VERSION = 1;
const LENGTH = 4;
const MOST_ENVELOPE = 16_384;
const SALT = 24;
const COMMITMENT = 32;
const CHUNK = 16_384;
const TAG = 16;
const MOST_CHUNKS = 2 ** 38;
const WRAPPED = "clv1.";
const ENVELOPE = Buffer.from("CLV\x01");
const INFO = Buffer.from("c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0");
/** The length of a file's data key, in bytes. */
export const DATA_KEY = 32;

/** Bytes from any source, in pieces of any length. */
export type Source = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Takes a source in pieces of the lengths that the format wants. */
export class Pulled {
  readonly #pieces: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  #left: Uint8Array = new Uint8Array();
  #ended = false;

  constructor(source: Source, signal?: AbortSignal) {
    const { [Symbol.asyncIterator]: asynchronous, [Symbol.iterator]: synchronous } = source as Partial<AsyncIterable<Uint8Array> & Iterable<Uint8Array>>;
    const pieces = asynchronous?.call(source) ?? synchronous?.call(source);
    if (pieces === undefined) {
      throw notBytes(source);
    }
    this.#pieces = pieces;
    this.#signal = signal;
  }

  /** Reads the first piece. From then on the source's errors come by way of `take`; a stream of Node would end the process. */
  async begin(): Promise<void> {
    await this.#next();
  }

  /** The next bytes: fewer than `size` at the end only. They are valid until the next call. */
  async take(size: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let missing = size;
    while (missing > 0 && (this.#left.length > 0 || (await this.#next()))) {
      const part = this.#left.subarray(0, missing);
      this.#left = this.#left.subarray(part.length);
      missing -= part.length;
      if (missing === 0 && parts.length === 0) {
        return part;
      }
      // A copy: the source may use its buffer again for the next piece.
      parts.push(Buffer.from(part));
    }
    return Buffer.concat(parts);
  }

  /** Ends the source, if it has not ended. */
  async end(): Promise<void> {
    if (!this.#ended) {
      this.#ended = true;
      await this.#pieces.return?.();
    }
  }

  async #next(): Promise<boolean> {
    if (this.#ended) {
      return false;
    }
    this.#signal?.throwIfAborted();
    const { done, value } = await this.#pieces.next();
    if (done) {
      this.#ended = true;
      return false;
    }
    if (!(value instanceof Uint8Array)) {
      throw notBytes(value);
    }
    this.#left = value;
    return true;
  }
}

/** The beginning of a file with this wrapped key, as a gateway returned it. */
export function makeHeader(wrapped: string): Buffer {
  const envelope = Buffer.from(wrapped.slice(WRAPPED.length), "base64url");
  if (textOf(envelope) !== wrapped || !envelope.subarray(0, ENVELOPE.length).equals(ENVELOPE) || envelope.length > MOST_ENVELOPE) {
    throw unexpected("The wrapped key in the response has another version of its format.");
  }
  const length = Buffer.alloc(LENGTH);
  length.writeUInt32BE(envelope.length);
  return Buffer.concat([MAGIC, Buffer.from([VERSION]), length, envelope]);
}

/** Reads the beginning of a file, and the wrapped key in it. */
export async function readHeader(source: Pulled): Promise<{ header: Buffer; wrapped: string }> {
  const magic = Buffer.from(await source.take(MAGIC.length));
  if (!magic.equals(MAGIC)) {
    throw failure(
      FileUnrecognizedError,
      "file_unrecognized",
      "This is not an encrypted file of Claviger.",
      "Check that this is the file that was encrypted, from its first byte on.",
    );
  }
  const version = await field(source, 1);
  if (version[0] !== VERSION) {
    throw failure(
      FileVersionError,
      "file_version_unsupported",
      `The file has version ${version[0]} of the format, and this release of the client reads version ${VERSION}.`,
      "Use a later release of the client.",
    );
  }
  const length = await field(source, LENGTH);
  const size = length.readUInt32BE();
  if (size > MOST_ENVELOPE) {
    throw damaged(`The wrapped key in the file has ${size} bytes, and ${MOST_ENVELOPE} is the most.`);
  }
  const envelope = await field(source, size);
  return { header: Buffer.concat([magic, version, length, envelope]), wrapped: textOf(envelope) };
}

/** Reads what is between the header and the first chunk. */
export async function readSalt(source: Pulled): Promise<{ salt: Buffer; commitment: Buffer }> {
  const both = await field(source, SALT + COMMITMENT);
  return { salt: both.subarray(0, SALT), commitment: both.subarray(SALT) };
}

/** Encrypts a content: what follows the header in the file. The salt is random, but in tests. */
export async function* sealContent(
  dataKey: Secret | undefined,
  header: Uint8Array,
  source: Pulled,
  salt: Uint8Array = randomBytes(SALT),
): AsyncGenerator<Uint8Array, void, undefined> {
  if (dataKey?.length !== DATA_KEY) {
    throw unexpected(`The data key in the response has not ${DATA_KEY} bytes.`);
  }
  const keys = derive(dataKey, header, salt);
  try {
    yield Buffer.concat([salt, keys.commitment]);
    for (let number = 0, last = false; !last; number += 1) {
      if (number === MOST_CHUNKS) {
        throw new RangeError("the content has more than 4 PiB");
      }
      const chunk = await source.take(CHUNK);
      const cipher = createCipheriv("aes-256-gcm", keys.key, chunkNonce(keys.nonce, number));
      last = chunk.length < CHUNK;
      yield Buffer.concat([cipher.update(chunk), cipher.final(), cipher.getAuthTag()]);
    }
  } finally {
    keys.key.fill(0);
  }
}

/** Decrypts a content. What is yielded is authentic, but it is whole only at the end. */
export async function* openContent(
  dataKey: Secret,
  header: Uint8Array,
  { salt, commitment }: { readonly salt: Uint8Array; readonly commitment: Uint8Array },
  source: Pulled,
): AsyncGenerator<Uint8Array, void, undefined> {
  const keys = dataKey.length === DATA_KEY ? derive(dataKey, header, salt) : undefined;
  if (keys === undefined || !timingSafeEqual(keys.commitment, commitment)) {
    throw failure(
      FileHeaderMismatchError,
      "file_header_mismatch",
      "The file's header does not belong to its content.",
      "Take another copy of the file. If its wrapped key was replaced by a rewrapped one, put the old one back.",
    );
  }
  try {
    for (let number = 0, last = false; !last; number += 1) {
      const sealed = await source.take(CHUNK + TAG);
      if (sealed.length < TAG) {
        throw truncated();
      }
      last = sealed.length < CHUNK + TAG;
      const plaintext = number < MOST_CHUNKS ? openChunk(keys.key, chunkNonce(keys.nonce, number), sealed) : undefined;
      if (plaintext === undefined) {
        throw damaged("A part of the file's content was changed, moved, taken away or added.");
      }
      if (plaintext.length > 0) {
        yield plaintext;
      }
    }
  } finally {
    keys.key.fill(0);
  }
}

/** The plaintext of a chunk, if its tag is right. */
function openChunk(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
  const end = sealed.length - TAG;
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG });
  decipher.setAuthTag(sealed.subarray(end));
  const plaintext = decipher.update(sealed.subarray(0, end));
  try {
    decipher.final();
    return plaintext;
  } catch {
    // What it was decrypted to goes nowhere.
    plaintext.fill(0);
    return undefined;
  }
}

interface Keys {
  readonly key: Buffer;
  readonly nonce: Buffer;
  readonly commitment: Buffer;
}

/** HKDF-Expand with SHA-512 (RFC 5869). That of node:crypto extracts first, which would give other keys. */
function derive(dataKey: Secret, header: Uint8Array, salt: Uint8Array): Keys {
  const info = Buffer.concat([INFO, salt, createHash("sha256").update(header).digest()]);
  const block = (previous: Uint8Array, number: number) =>
    createHmac("sha512", dataKey.expose()).update(previous).update(info).update(Buffer.from([number])).digest();
  const first = block(Buffer.alloc(0), 1);
  // Not a part of the pool of small buffers, which the whole process shares.
  const all = Buffer.alloc(2 * first.length);
  all.set(first);
  all.set(block(first, 2), first.length);
  return { key: all.subarray(0, 32), nonce: all.subarray(32, 44), commitment: all.subarray(44, 44 + COMMITMENT) };
}

/** The base nonce XOR the chunk's number, as an integer of 12 bytes. */
export function chunkNonce(base: Buffer, number: number): Buffer {
  const made = Buffer.from(base);
  made.writeUInt32BE((made.readUInt32BE(8) ^ (number % 2 ** 32)) >>> 0, 8);
  made.writeUInt32BE((made.readUInt32BE(4) ^ Math.floor(number / 2 ** 32)) >>> 0, 4);
  return made;
}

function notBytes(found: unknown): TypeError {
  return new TypeError(`found a ${typeof found} instead of bytes: a source is an array of Uint8Array, or a stream without an encoding`);
}

/** A part of the file that must be whole. A copy, since it is kept. */
async function field(source: Pulled, size: number): Promise<Buffer> {
  const taken = Buffer.from(await source.take(size));
  if (taken.length < size) {
    throw truncated();
  }
  return taken;
}

function textOf(envelope: Buffer): string {
  return `${WRAPPED}${envelope.toString("base64url")}`;
}

function truncated(): FileTruncatedError {
  return failure(FileTruncatedError, "file_truncated", "The end of the file is missing.", "Take another copy of the file.");
}

function damaged(detail: string): FileDamagedError {
  return failure(FileDamagedError, "file_damaged", detail, "Take another copy of the file. This one may have been cut short, too.");
}

function failure<Class extends FileError>(
  Class: new (detail: string, members: ConstructorParameters<typeof FileError>[1]) => Class,
  code: ConstructorParameters<typeof FileError>[1]["code"],
  detail: string,
  whatToDo: string,
): Class {
  return new Class(detail, { code, title: "File not opened", whatToDo });
}

function unexpected(detail: string): UnexpectedResponseError {
  return new UnexpectedResponseError(detail, {
    code: "unexpected_response",
    title: "Unexpected response",
    whatToDo: "Check that this release of the client goes with the gateway.",
    maybeExecuted: true,
  });
}
