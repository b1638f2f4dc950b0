/** Keys: what wraps data keys. */

import type { CreateKey, Key, KeyVersion, RotateKey, SetKeyState, UpdateKey } from "../generated/models/index.js";
import * as endpoints from "../generated/operations.js";
import type { KeyStateFilter } from "../generated/words.js";
import { type CallOptions, type ChangeOptions, type KeyedOptions, type ListOptions, split } from "./caller.js";
import { ConnectionOperations } from "./connections.js";

export interface CreateKeyOptions extends Omit<CreateKey, "name" | "connection">, KeyedOptions {}
export interface RotateKeyOptions extends RotateKey, KeyedOptions {}
export interface DisableKeyOptions extends SetKeyState, CallOptions {}
export interface EnableKeyOptions extends SetKeyState, KeyedOptions {}
export interface ListKeysOptions extends ListOptions {
  /** Only keys whose primary version uses this connection. */
  readonly connection?: string | undefined;
  /** Only keys in this state, or instead the detached ones. */
  readonly state?: KeyStateFilter | undefined;
  /** Only keys with this label: its name and its value. */
  readonly label?: readonly [name: string, value: string] | undefined;
}

/** Operations on keys. */
export abstract class KeyOperations extends ConnectionOperations {
  /** Creates a key at the connection's provider, or adopts the key that `providerKey` names there. */
  createKey(name: string, connection: string, options: CreateKeyOptions = {}): Promise<Key> {
    const [members, call] = split(options);
    return this.call(endpoints.createKey, { body: { ...members, name, connection } }, call);
  }

  /** Iterates over the keys, ordered by name; detached ones by id. */
  listKeys(options: ListKeysOptions = {}): AsyncGenerator<Key, void, undefined> {
    const { connection, state, label, pageSize } = options;
    return this.iterate(endpoints.listKeys, { query: { connection, state, label: label?.join("="), page_size: pageSize } }, options);
  }

  /** Reads a key. */
  getKey(key: string, options: CallOptions = {}): Promise<Key> {
    return this.call(endpoints.getKey, { path: { key } }, options);
  }

  /**
   * Changes a key that is still as the `etag` of the options says. To allow export, and to turn the cache on in external
   * custody, needs a justification (`withOptions`).
   */
  updateKey(key: string, changes: UpdateKey, options: ChangeOptions): Promise<Key> {
    return this.call(endpoints.updateKey, { path: { key }, body: changes, etag: options.etag }, options);
  }

  /** Detaches a key: nothing changes at the provider, and the id stays reserved. */
  deleteKey(key: string, options: CallOptions = {}): Promise<void> {
    return this.call(endpoints.deleteKey, { path: { key } }, options);
  }

  /** Iterates over the versions of a key, oldest first. */
  listKeyVersions(key: string, options: ListOptions = {}): AsyncGenerator<KeyVersion, void, undefined> {
    return this.iterate(endpoints.listKeyVersions, { path: { key }, query: { page_size: options.pageSize } }, options);
  }

  /**
   * Creates a new primary version. With a connection, provider key or spec, the key moves there. While the provider has
   * not finished, `rotation.state` of the result is `in_progress`.
   */
  rotateKey(key: string, options: RotateKeyOptions = {}): Promise<Key> {
    const [members, call] = split(options);
    return this.call(endpoints.rotateKey, { path: { key }, body: members }, call);
  }

  /**
   * Disables a key from the next request on; with `atProvider` at its providers, too. Read `atProvider.result` then: the
   * key is disabled here even if no provider could be reached. A `RevocationNotDurableError` says that the revocation
   * took effect nevertheless.
   */
  disableKey(key: string, options: DisableKeyOptions = {}): Promise<Key> {
    const [members, call] = split(options);
    return this.call(endpoints.disableKey, { path: { key }, body: members }, call);
  }

  /** Enables a key; with `atProvider` at its providers first. */
  enableKey(key: string, options: EnableKeyOptions = {}): Promise<Key> {
    const [members, call] = split(options);
    return this.call(endpoints.enableKey, { path: { key }, body: members }, call);
  }
}
