/** Connections: credentials and settings to reach a provider. */

import type { CheckResult, Connection, ConnectionCapabilities, CreateConnection, UpdateConnection } from "../generated/models/index.js";
import * as endpoints from "../generated/operations.js";
import { AccessOperations } from "./access.js";
import { type CallOptions, type ChangeOptions, type KeyedOptions, type ListOptions, split } from "./caller.js";

/** A provider that callers can create connections to. */
export type CreatableProvider = CreateConnection["provider"];
/** The settings of a connection to this provider. */
export type SettingsOf<Provider extends CreatableProvider> = Extract<CreateConnection, { provider: Provider }>["settings"];
export interface CreateConnectionOptions extends Omit<CreateConnection, "name" | "provider" | "settings">, KeyedOptions {}

/** Operations on connections. */
export abstract class ConnectionOperations extends AccessOperations {
  /** Creates a connection to a provider. Secrets in the settings may be `SecretText`. */
  createConnection<Provider extends CreatableProvider>(
    name: string,
    provider: Provider,
    settings: SettingsOf<Provider>,
    options: CreateConnectionOptions = {},
  ): Promise<Connection> {
    const [members, call] = split(options);
    return this.call(endpoints.createConnection, { body: { ...members, name, provider, settings } as CreateConnection }, call);
  }

  /** Iterates over the connections, ordered by name. */
  listConnections(options: ListOptions = {}): AsyncGenerator<Connection, void, undefined> {
    return this.iterate(endpoints.listConnections, { query: { page_size: options.pageSize } }, options);
  }

  /** Reads a connection, with its login, circuit and health. */
  getConnection(connection: string, options: CallOptions = {}): Promise<Connection> {
    return this.call(endpoints.getConnection, { path: { connection } }, options);
  }

  /**
   * Changes a connection that is still as the `etag` of the options says. The names in `secrets` are those of the API,
   * such as `secret_access_key`.
   */
  updateConnection(connection: string, changes: UpdateConnection, options: ChangeOptions): Promise<Connection> {
    return this.call(endpoints.updateConnection, { path: { connection }, body: changes, etag: options.etag }, options);
  }

  /** Deletes a connection that no version of a key uses. */
  deleteConnection(connection: string, options: CallOptions = {}): Promise<void> {
    return this.call(endpoints.deleteConnection, { path: { connection } }, options);
  }

  /** Tests each right that the connection needs at its provider. It may log in, which the provider counts. */
  checkConnection(connection: string, options: CallOptions = {}): Promise<CheckResult> {
    return this.call(endpoints.checkConnection, { path: { connection } }, options);
  }

  /** Reads what the provider supports, and where it is done. */
  getConnectionCapabilities(connection: string, options: CallOptions = {}): Promise<ConnectionCapabilities> {
    return this.call(endpoints.getConnectionCapabilities, { path: { connection } }, options);
  }

  /**
   * Blocks a connection from the next request on, cached data keys included. A `RevocationNotDurableError` says that it
   * took effect nevertheless.
   */
  severConnection(connection: string, options: CallOptions = {}): Promise<Connection> {
    return this.call(endpoints.severConnection, { path: { connection } }, options);
  }

  /** Opens a severed connection again, with credentials that are fetched anew. */
  restoreConnection(connection: string, options: KeyedOptions = {}): Promise<Connection> {
    return this.call(endpoints.restoreConnection, { path: { connection } }, options);
  }
}
