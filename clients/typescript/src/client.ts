/** The client: its settings, and what carries out its calls. */

import { inspect } from "node:util";

import { type Given, makeBatch, makeCall } from "./calls.js";
import { LONGEST, SHORTEST, type Settings, carryOut, carryOutBatch } from "./core.js";
import type { BatchEndpoint, Endpoint } from "./endpoints.js";
import type { CallOptions, KeyedOptions, Page } from "./operations/caller.js";
import { DataKeyOperations } from "./operations/data-keys.js";
import { type Token, type TokenFunction, tokenSource } from "./tokens.js";
import { type Authority, Transport, checkAddress } from "./transport.js";
import { VERSION } from "./version.js";

/** The settings of calls, which `withOptions` changes. */
export interface Options {
  /** For platform operators: the tenant to act for. */
  readonly tenant?: string | null | undefined;
  /** The deadline of each call with all its retries, in milliseconds: at least 100 (default: 30,000). */
  readonly timeout?: number | undefined;
  /** How often a call is repeated at most (default: 4). */
  readonly retries?: number | undefined;
  /** The reason of the calls, for the audit records: at most 256 printable ASCII characters. */
  readonly justification?: string | null | undefined;
}

/** The settings of a client. */
export interface ClientOptions extends Options {
  /** Such as `https://claviger.example:8420`. Plain http is for loopback, unless `allowPlainHttp`. */
  readonly address: string | URL;
  /** An API token or a JWT, or a function that returns one and is called for each request. */
  readonly token?: Token | TokenFunction | undefined;
  /** A file with the token instead. It is read for each request, so it may be replaced. */
  readonly tokenFile?: string | URL | undefined;
  /** A PEM file with the authorities to trust instead of Node's, or a `SecureContext` of node:tls. */
  readonly ca?: Authority | undefined;
  /** Whether plain http to another host is allowed. */
  readonly allowPlainHttp?: boolean | undefined;
}

const DEFAULTS = { timeout: 30_000, retries: 4 };

/** What clients of `withOptions` share. */
class Shared {
  constructor(
    readonly transport: Transport,
    readonly settings: Settings,
  ) {}
}

/** A client of a Claviger gateway. It keeps connections, which do not keep the process alive, and no data key. */
export class Client extends DataKeyOperations {
  readonly #transport: Transport;
  readonly #settings: Settings;
  readonly #owner: boolean;

  /** Makes a client. Nothing is sent, and the token file is not read, before the first call. Throws `TypeError`. */
  constructor(options: ClientOptions) {
    super();
    if (options instanceof Shared) {
      [this.#transport, this.#settings, this.#owner] = [options.transport, options.settings, false];
      return;
    }
    const address = checkAddress(options.address, options.allowPlainHttp ?? false);
    const settings = {
      address: address.href.replace(/\/+$/, ""),
      tokens: tokenSource(options.token, options.tokenFile),
      headers: { Accept: "application/json", "Accept-Encoding": "identity", "User-Agent": `claviger-client-typescript/${VERSION}` },
      ...DEFAULTS,
    };
    this.#settings = change(settings, options);
    this.#transport = new Transport(address, options.ca);
    this.#owner = true;
  }

  /**
   * Makes a client of the variables that the command line reads, too; `claviger dev` prints them.
   *
   * CLAVIGER_ADDRESS, CLAVIGER_TOKEN_FILE (or else CLAVIGER_TOKEN), and where it is set CLAVIGER_TENANT. `options` go
   * before the variables.
   */
  static fromEnv(options: Partial<ClientOptions> = {}): Client {
    const variable = (name: string) => process.env[`CLAVIGER_${name}`] || undefined;
    const address = options.address ?? variable("ADDRESS");
    if (address === undefined) {
      throw new TypeError("CLAVIGER_ADDRESS must be set");
    }
    const given = options.token !== undefined || options.tokenFile !== undefined;
    const tokenFile = given ? options.tokenFile : variable("TOKEN_FILE");
    const token = given || tokenFile !== undefined ? options.token : variable("TOKEN");
    if (token === undefined && tokenFile === undefined) {
      throw new TypeError("CLAVIGER_TOKEN_FILE must be set");
    }
    const tenant = options.tenant === undefined ? variable("TENANT") : options.tenant;
    return new Client({ ...options, address, token, tokenFile, tenant });
  }

  /**
   * Returns a client with other settings that shares this one's connections, and ends with it. What is left out stays
   * as it is; null removes the tenant or the justification.
   */
  withOptions(options: Options): Client {
    const shared: unknown = new Shared(this.#transport, change(this.#settings, options));
    return new Client(shared as ClientOptions);
  }

  /** Ends the connections. */
  close(): void {
    if (this.#owner) {
      this.#transport.close();
    }
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    return `Client(${this.#settings.address})`;
  }

  protected override async call<Body, Result>(endpoint: Endpoint<Body, Result>, given: Given<Body>, options: KeyedOptions): Promise<Result> {
    const call = makeCall(endpoint, { ...given, idempotencyKey: options.idempotencyKey });
    return carryOut(call, this.#settings, this.#transport, options.signal);
  }

  protected override async *iterate<Item>(
    endpoint: Endpoint<undefined, Page<Item>>,
    given: Given<undefined>,
    options: CallOptions,
  ): AsyncGenerator<Item, void, undefined> {
    let pageToken: string | undefined;
    do {
      const page = await this.call(endpoint, { ...given, query: { ...given.query, page_token: pageToken } }, { signal: options.signal });
      yield* page.items;
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
  }

  protected override async batch<Item, Result>(endpoint: BatchEndpoint<Item, Result>, items: Iterable<Item>, options: CallOptions): Promise<Result[]> {
    return carryOutBatch(makeBatch(endpoint, items), this.#settings, this.#transport, options.signal);
  }
}

/** The settings with these changes. Throws `TypeError`. */
function change(settings: Settings, options: Options): Settings {
  const { timeout = settings.timeout, retries = settings.retries, tenant, justification } = options;
  if (!(timeout >= SHORTEST && timeout <= LONGEST)) {
    throw new TypeError(`timeout must be between ${SHORTEST} and ${LONGEST} milliseconds`);
  }
  if (!(Number.isInteger(retries) && retries >= 0)) {
    throw new TypeError("retries must be a number that is not negative");
  }
  const headers = { ...settings.headers };
  for (const [name, value] of Object.entries({ "Claviger-Tenant": tenant, "Claviger-Justification": justification })) {
    if (value === null) {
      delete headers[name];
    } else if (value !== undefined) {
      if (typeof value !== "string" || !/^[ -~]{0,256}$/.test(value)) {
        throw new TypeError(`${name} must be at most 256 printable ASCII characters`);
      }
      headers[name] = value;
    }
  }
  return { ...settings, headers, timeout, retries };
}
