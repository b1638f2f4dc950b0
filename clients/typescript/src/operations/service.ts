/** The installation: declared objects, health, metrics and the OpenAPI document. */

import type { DeclaredReport, Liveness, Readiness } from "../generated/models/index.js";
import * as endpoints from "../generated/operations.js";
import type { ReleasableKind } from "../generated/words.js";
import { type CallOptions, Caller } from "./caller.js";

/** Operations on the installation. */
export abstract class ServiceOperations extends Caller {
  /** Compares what the gateway's configuration declares with what there is. For platform operators. */
  planDeclared(options: CallOptions = {}): Promise<DeclaredReport> {
    return this.call(endpoints.planDeclared, {}, options);
  }

  /** Creates what the gateway's configuration declares. For platform operators. */
  applyDeclared(options: CallOptions = {}): Promise<DeclaredReport> {
    return this.call(endpoints.applyDeclared, {}, options);
  }

  /** Gives an object that is no longer declared to its tenant. For platform operators. */
  releaseDeclared(kind: ReleasableKind, tenant: string, name: string, options: CallOptions = {}): Promise<void> {
    return this.call(endpoints.releaseDeclared, { body: { kind, tenant, name } }, options);
  }

  /** Reads whether the process runs. Sends no token. */
  getHealth(options: CallOptions = {}): Promise<Liveness> {
    return this.call(endpoints.getHealth, {}, options);
  }

  /** Reads the state of each part, also while the gateway is not ready. Sends no token. */
  getReadiness(options: CallOptions = {}): Promise<Readiness> {
    return this.call(endpoints.getReadiness, {}, options);
  }

  /** Reads the metrics as Prometheus text. Needs a platform operator's token. */
  getMetrics(options: CallOptions = {}): Promise<string> {
    return this.call(endpoints.getMetrics, {}, options);
  }

  /** Reads the OpenAPI document of the gateway. Sends no token. */
  getOpenapi(options: CallOptions = {}): Promise<Readonly<Record<string, unknown>>> {
    return this.call(endpoints.getOpenapi, {}, options);
  }
}
