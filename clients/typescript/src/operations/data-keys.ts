/** Data keys: generate, wrap, unwrap, rewrap. Nothing is cached. */

import type {
  DataKey,
  FailedItem,
  GenerateDataKeyRequest,
  GenerateItem,
  GeneratedItem,
  InspectResult,
  RewrapItem,
  RewrapRequest,
  RewrapResult,
  RewrappedItem,
  UnwrapItem,
  UnwrapRequest,
  UnwrapResult,
  UnwrappedItem,
  WrapItem,
  WrapRequest,
  WrapResult,
  WrappedItem,
} from "../generated/models/index.js";
import * as endpoints from "../generated/operations.js";
import type { Secret } from "../secrets.js";
import { type CallOptions, split } from "./caller.js";
import { KeyOperations } from "./keys.js";

export interface GenerateDataKeyOptions extends GenerateDataKeyRequest, CallOptions {}
export interface WrapOptions extends Omit<WrapRequest, "plaintext">, CallOptions {}
export interface UnwrapOptions extends Omit<UnwrapRequest, "wrapped">, CallOptions {}
export interface RewrapOptions extends Omit<RewrapRequest, "wrapped">, CallOptions {}

/**
 * Operations on data keys.
 *
 * `context` binds a wrapped key to pairs of text, which an unwrap must repeat exactly. It is not secret.
 */
export abstract class DataKeyOperations extends KeyOperations {
  /**
   * Generates a data key. Store `wrapped` with what you encrypt, and forget `plaintext`. With `plaintext: false` the
   * result has only the wrapped key.
   */
  generateDataKey(key: string, options?: GenerateDataKeyOptions & { readonly plaintext?: true | undefined }): Promise<DataKey & { readonly plaintext: Secret }>;
  generateDataKey(key: string, options?: GenerateDataKeyOptions): Promise<DataKey>;
  generateDataKey(key: string, options: GenerateDataKeyOptions = {}): Promise<DataKey> {
    const [members, call] = split(options);
    return this.call(endpoints.generateDataKey, { path: { key }, body: members }, call);
  }

  /** Wraps 1 to 4096 bytes. */
  wrap(key: string, plaintext: Secret | Uint8Array, options: WrapOptions = {}): Promise<WrapResult> {
    const [members, call] = split(options);
    return this.call(endpoints.wrap, { path: { key }, body: { ...members, plaintext } }, call);
  }

  /** Unwraps with the key that the wrapped key names. */
  unwrap(wrapped: string, options: UnwrapOptions = {}): Promise<UnwrapResult> {
    const [members, call] = split(options);
    return this.call(endpoints.unwrap, { body: { ...members, wrapped } }, call);
  }

  /** Unwraps with this key only: what another key wrapped is refused with a `CiphertextRejectedError`. */
  unwrapWithKey(key: string, wrapped: string, options: UnwrapOptions = {}): Promise<UnwrapResult> {
    const [members, call] = split(options);
    return this.call(endpoints.unwrapWithKey, { path: { key }, body: { ...members, wrapped } }, call);
  }

  /** Wraps the same data key with the key's newest version, or with the key `to`. */
  rewrap(key: string, wrapped: string, options: RewrapOptions = {}): Promise<RewrapResult> {
    const [members, call] = split(options);
    return this.call(endpoints.rewrap, { path: { key }, body: { ...members, wrapped } }, call);
  }

  /** Reads what a wrapped key says about itself. No provider is called. */
  inspect(wrapped: string, options: UnwrapOptions = {}): Promise<InspectResult> {
    const [members, call] = split(options);
    return this.call(endpoints.inspect, { body: { ...members, wrapped } }, call);
  }

  /** Generates data keys. See `batchUnwrap`. */
  batchGenerateDataKeys(items: Iterable<GenerateItem>, options: CallOptions = {}): Promise<(GeneratedItem | FailedItem)[]> {
    return this.batch(endpoints.batchGenerateDataKeys, items, options);
  }

  /** Wraps plaintexts. See `batchUnwrap`. */
  batchWrap(items: Iterable<WrapItem>, options: CallOptions = {}): Promise<(WrappedItem | FailedItem)[]> {
    return this.batch(endpoints.batchWrap, items, options);
  }

  /**
   * Unwraps any number of wrapped keys, and returns the results in the same order.
   *
   * An item that fails is a `FailedItem`, whose `error` is what a single call would throw. Items are sent in as many
   * requests as needed, one after the other, each with the client's deadline. If one of these fails as a whole, its
   * error is thrown, with the results before it in `results`.
   */
  batchUnwrap(items: Iterable<UnwrapItem>, options: CallOptions = {}): Promise<(UnwrappedItem | FailedItem)[]> {
    return this.batch(endpoints.batchUnwrap, items, options);
  }

  /** Rewraps wrapped keys. See `batchUnwrap`. */
  batchRewrap(items: Iterable<RewrapItem>, options: CallOptions = {}): Promise<(RewrappedItem | FailedItem)[]> {
    return this.batch(endpoints.batchRewrap, items, options);
  }
}
