/** The vectors of encrypted files, in tests/vectors/files. */

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";

import { ROOT } from "./folders.js";

const FOLDER = path.join(ROOT, "tests", "vectors", "files");

export interface Good {
  readonly description: string;
  readonly k: string;
  readonly file: string;
  readonly plaintext_length: number;
  readonly plaintext_sha256: string;
}

interface Piece {
  readonly hex?: string;
  readonly of?: string;
  readonly from?: number;
  readonly to?: number;
}

export interface Bad {
  readonly description: string;
  readonly k: string;
  readonly pieces: readonly Piece[];
  readonly error: string;
  readonly authenticated_length: number;
}

function load<Vector>(folder: string): Map<string, Vector> {
  const files = readdirSync(path.join(FOLDER, folder)).filter((file) => file.endsWith(".json"));
  return new Map(files.map((file) => [file.replace(".json", ""), JSON.parse(readFileSync(path.join(FOLDER, folder, file), "utf8"))]));
}

export const GOOD = load<Good>("good");
export const BAD = load<Bad>("bad");

/** The plaintext of the vectors. */
export function pattern(length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, number) => {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(number);
    return createHash("sha256").update(counter).digest();
  });
  return Buffer.concat(blocks).subarray(0, length);
}

/** The file of a bad vector. */
export function joined(pieces: readonly Piece[]): Buffer {
  return Buffer.concat(
    pieces.map(({ hex, of = "", from, to }) => (hex === undefined ? Buffer.from(GOOD.get(of)?.file ?? "", "base64").subarray(from, to) : Buffer.from(hex, "hex"))),
  );
}
