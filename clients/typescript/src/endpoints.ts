/** What the document says of an operation. `generated/operations.ts` has all of them. */

import type { Codec } from "./codec.js";

/**
 * Whether a request may be sent again when its response was lost:
 * - `always`: nothing changes, or the same state results, whichever attempt is carried out
 * - `key`: an idempotency key makes it safe
 * - `never`: the caller must look, since the second attempt can fail because of the first one
 */
export type Idempotency = "always" | "key" | "never";

/** An operation with at most one body. */
export interface Endpoint<Body, Result> {
  readonly method: string;
  /** With the names of its parameters in braces. */
  readonly path: string;
  readonly idempotency: Idempotency;
  /** False where no token is sent. */
  readonly credential?: boolean;
  /** An error status whose body is a result nevertheless. */
  readonly alsoSuccess?: number;
  readonly request?: Codec<unknown, Body>;
  readonly response: Codec<Result>;
}

/** An operation on any number of items, in as many requests as the bounds of one need. */
export interface BatchEndpoint<Item, Result> extends Endpoint<never, { readonly items: readonly Result[] }> {
  readonly item: Codec<Item>;
  readonly mostItems: number;
  /** Of a body. */
  readonly mostBytes: number;
}

export function endpoint<Body = undefined, Result = void>(of: Endpoint<Body, Result>): Endpoint<Body, Result> {
  return of;
}

export function batchEndpoint<Item, Result>(of: BatchEndpoint<Item, Result>): BatchEndpoint<Item, Result> {
  return of;
}
