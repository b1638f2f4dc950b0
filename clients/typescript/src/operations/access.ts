/** Tenants, principals and their tokens. */

import type { Caller as CallerOfApi, CreatePrincipal, CreateTenant, CreateToken, CreatedToken, Principal, Tenant, Token } from "../generated/models/index.js";
import * as endpoints from "../generated/operations.js";
import type { Operation } from "../generated/words.js";
import { type CallOptions, type KeyedOptions, type ListOptions, split } from "./caller.js";
import { ServiceOperations } from "./service.js";

export interface CreateTenantOptions extends Omit<CreateTenant, "name">, KeyedOptions {}
export interface CreatePrincipalOptions extends Omit<CreatePrincipal, "name">, KeyedOptions {}
export interface CreateTokenOptions extends Omit<CreateToken, "operations">, KeyedOptions {}

/** Operations on tenants, principals and tokens. */
export abstract class AccessOperations extends ServiceOperations {
  /** Reads the client's own token, and the tenant that its requests act for. */
  whoAmI(options: CallOptions = {}): Promise<CallerOfApi> {
    return this.call(endpoints.whoAmI, {}, options);
  }

  /** Creates a tenant. For platform operators. */
  createTenant(name: string, options: CreateTenantOptions = {}): Promise<Tenant> {
    const [members, call] = split(options);
    return this.call(endpoints.createTenant, { body: { ...members, name } }, call);
  }

  /** Iterates over the tenants, ordered by name. For platform operators. */
  listTenants(options: ListOptions = {}): AsyncGenerator<Tenant, void, undefined> {
    return this.iterate(endpoints.listTenants, { query: { page_size: options.pageSize } }, options);
  }

  /** Reads a tenant. For platform operators. */
  getTenant(tenant: string, options: CallOptions = {}): Promise<Tenant> {
    return this.call(endpoints.getTenant, { path: { tenant } }, options);
  }

  /**
   * Refuses every request of the tenant's credentials from the next one on. For platform operators. A
   * `RevocationNotDurableError` says that it took effect nevertheless.
   */
  suspendTenant(tenant: string, options: CallOptions = {}): Promise<Tenant> {
    return this.call(endpoints.suspendTenant, { path: { tenant } }, options);
  }

  /** Lifts a suspension. For platform operators. */
  resumeTenant(tenant: string, options: KeyedOptions = {}): Promise<Tenant> {
    return this.call(endpoints.resumeTenant, { path: { tenant } }, options);
  }

  /** Creates a principal. */
  createPrincipal(name: string, options: CreatePrincipalOptions = {}): Promise<Principal> {
    const [members, call] = split(options);
    return this.call(endpoints.createPrincipal, { body: { ...members, name } }, call);
  }

  /** Iterates over the principals, ordered by name. */
  listPrincipals(options: ListOptions = {}): AsyncGenerator<Principal, void, undefined> {
    return this.iterate(endpoints.listPrincipals, { query: { page_size: options.pageSize } }, options);
  }

  /** Reads a principal. */
  getPrincipal(principal: string, options: CallOptions = {}): Promise<Principal> {
    return this.call(endpoints.getPrincipal, { path: { principal } }, options);
  }

  /** Deletes a principal, which ends its tokens and all below them at the next request. */
  deletePrincipal(principal: string, options: CallOptions = {}): Promise<void> {
    return this.call(endpoints.deletePrincipal, { path: { principal } }, options);
  }

  /**
   * Issues a token, whose text is in `token` of this result and nowhere else. If the response is lost, the repetition
   * throws an `AlreadyCreatedError`: revoke the token that it names, and issue another one.
   */
  createToken(principal: string, operations: readonly Operation[], options: CreateTokenOptions = {}): Promise<CreatedToken> {
    const [members, call] = split(options);
    return this.call(endpoints.createToken, { path: { principal }, body: { ...members, operations } }, call);
  }

  /** Iterates over the tokens of a principal. */
  listTokens(principal: string, options: ListOptions = {}): AsyncGenerator<Token, void, undefined> {
    return this.iterate(endpoints.listTokens, { path: { principal }, query: { page_size: options.pageSize } }, options);
  }

  /** Revokes the token of this id, from the next request on. */
  deleteToken(principal: string, token: string, options: CallOptions = {}): Promise<void> {
    return this.call(endpoints.deleteToken, { path: { principal, token } }, options);
  }
}
