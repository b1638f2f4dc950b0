/** The operating system's and OpenSSL's own words for an error, without what Node adds. */

import { getSystemErrorMap } from "node:util";

const WORDS = getSystemErrorMap();

/** Why a call of Node failed, such as `connection refused`. Never Node's message, which can have what was sent. */
export function systemReason(error: unknown): string {
  // Of several addresses of a host that were tried.
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const { errno, code, reason } = (typeof first === "object" && first !== null ? first : {}) as NodeJS.ErrnoException & { reason?: string };
  return (errno === undefined ? undefined : WORDS.get(errno)?.[1]) ?? reason?.toLowerCase() ?? code ?? "no reason is known";
}
