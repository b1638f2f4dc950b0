/** What the operations are made of. */

import type { Given } from "../calls.js";
import type { BatchEndpoint, Endpoint } from "../endpoints.js";

/** Options of every call. */
export interface CallOptions {
  /** Ends the call, which then throws the signal's reason. The gateway may have carried out the request. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a call that an idempotency key makes repeatable. */
export interface KeyedOptions extends CallOptions {
  /** 1 to 255 printable ASCII characters without spaces. Otherwise the client makes one for each call. */
  readonly idempotencyKey?: string | undefined;
}

/** Options of a change. */
export interface ChangeOptions extends CallOptions {
  /** The etag of the object as it was read, or `"*"` for any state. */
  readonly etag: string;
}

/** Options of a list. */
export interface ListOptions extends CallOptions {
  /** Items of each request: 1 to 1000 (default: 100). */
  readonly pageSize?: number | undefined;
}

/** A page of a list. */
export interface Page<Item> {
  readonly items: readonly Item[];
  readonly nextPageToken?: string | undefined;
}

/** Splits the options of the call from the members of the request. */
export function split<Options extends KeyedOptions>(options: Options): [Omit<Options, keyof KeyedOptions>, KeyedOptions] {
  const { signal, idempotencyKey, ...members } = options;
  return [members, { signal, idempotencyKey }];
}

/** What carries out the calls. */
export abstract class Caller {
  /** Makes one call. */
  protected abstract call<Body, Result>(endpoint: Endpoint<Body, Result>, given: Given<Body>, options: KeyedOptions): Promise<Result>;

  /** Iterates over a list. A page is fetched when the iteration comes to it. */
  protected abstract iterate<Item>(endpoint: Endpoint<undefined, Page<Item>>, given: Given<undefined>, options: CallOptions): AsyncGenerator<Item, void, undefined>;

  /** Makes as many calls as the items need. */
  protected abstract batch<Item, Result>(endpoint: BatchEndpoint<Item, Result>, items: Iterable<Item>, options: CallOptions): Promise<Result[]>;
}
