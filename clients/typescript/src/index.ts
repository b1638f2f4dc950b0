/**
 * Client of Claviger, a gateway to key-management services.
 *
 * ```ts
 * import { Client } from "@claviger/client";
 *
 * const claviger = new Client({ address: "https://claviger.example:8420", tokenFile: "app.token" });
 * const dataKey = await claviger.generateDataKey("orders", { context: { table: "orders" } });
 * encrypt(dataKey.plaintext.expose()); // and store dataKey.wrapped beside the result
 * ```
 */

export { Client, type ClientOptions, type Options } from "./client.js";
export type { Duration, Meta, Model } from "./codec.js";
export * from "./errors.js";
export { ERROR_CODES, ErrorCode, type KnownErrorCode } from "./generated/codes.js";
export type * from "./generated/models/index.js";
export * from "./generated/words.js";
export type { CallOptions, ChangeOptions, KeyedOptions, ListOptions } from "./operations/caller.js";
export type * from "./operations/access.js";
export type * from "./operations/connections.js";
export type * from "./operations/data-keys.js";
export type * from "./operations/keys.js";
export { Secret, SecretText } from "./secrets.js";
export type { Token as TokenText, TokenFunction } from "./tokens.js";
export type { Authority } from "./transport.js";
export { VERSION } from "./version.js";
export { type Closed, type Open, isKnown } from "./words.js";
