/** Where the token comes from. Nothing is kept: a token that is replaced is used from the next request on. */

import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { TokenError } from "./errors.js";
import { SecretText } from "./secrets.js";
import { systemReason } from "./system.js";

// Longer than any JWT that a gateway takes.
const MOST = 16 << 10;
// `clv_`, 12 characters, `_`, 43 characters of secret and 6 of checksum.
const API_TOKEN = 66;

/** An API token (`clv_...`) or a JWT. */
export type Token = string | SecretText;

/** A function that returns the token of now. It is called for each request. */
export type TokenFunction = () => Token | Promise<Token>;

/** Returns the token of now. Another call can help if `changes`. */
export interface TokenSource {
  readonly changes: boolean;
  read(): Promise<SecretText>;
}

/** The source of a client's options, of which exactly one is given. */
export function tokenSource(token: Token | TokenFunction | undefined, file: string | URL | undefined): TokenSource {
  if ((token === undefined) === (file === undefined)) {
    throw new TypeError("give one of token and tokenFile");
  }
  if (file !== undefined) {
    const path = file instanceof URL ? fileURLToPath(file) : file;
    return { changes: true, read: () => readFile(path) };
  }
  if (typeof token === "function") {
    return { changes: true, read: async () => parse(await token()) };
  }
  const fixed = parse(token);
  return { changes: false, read: async () => fixed };
}

/**
 * Reads a file with an API token or a JWT.
 *
 * Comparing the time of the last change instead would miss a second change within the clock's resolution.
 */
async function readFile(path: string): Promise<SecretText> {
  let reason = "it is empty or not whole";
  try {
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST + 1), 0, MOST + 1, 0);
      return parse(buffer.toString("latin1", 0, bytesRead));
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!(error instanceof TokenError)) {
      reason = systemReason(error);
    }
  }
  throw new TokenError(`The token file ${path} cannot be used: ${reason}.`, {
    code: "token_unusable",
    title: "Token unusable",
    whatToDo: "Write the token to the file, as one line, and let this user read it. To replace it, write another file and rename it.",
    // It may be about to be replaced.
    isRetryable: true,
  });
}

/**
 * Checks the form of a token; white space around it does not count.
 *
 * An API token has one length, so a file that is half written does not pass for one.
 */
function parse(token: unknown): SecretText {
  const given = token instanceof SecretText ? token.expose() : token;
  if (typeof given !== "string") {
    throw new TypeError("token must be text, a SecretText or a function that returns one");
  }
  const text = given.trim();
  if (/^[!-~]+$/.test(text) && text.length <= MOST && (!text.startsWith("clv_") || text.length === API_TOKEN)) {
    return new SecretText(text);
  }
  throw new TokenError("This is not a token.", {
    code: "token_unusable",
    title: "Token unusable",
    whatToDo: "Give a whole API token (clv_...) or a JWT: one line of printable ASCII, at most 16 KiB.",
  });
}
