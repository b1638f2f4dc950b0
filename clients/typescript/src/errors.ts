/**
 * Everything that a call can throw for what the gateway answers, or for what comes in between.
 *
 * `ClavigerError` is the base. Catch a subclass where you act on it, and read `code` for the exact reason. Wrong
 * arguments are a `TypeError`, and nothing is sent. A call that its `AbortSignal` ends throws the signal's reason.
 */

import { type ErrorCode, type KnownErrorCode, PROBLEM_MEMBERS } from "./generated/codes.js";

/** The codes of the client's own errors, which no gateway sends. */
export type ClientErrorCode =
  | "gateway_unreachable"
  | "certificate_untrusted"
  | "connection_lost"
  | "response_truncated"
  | "unexpected_response"
  | "token_unusable"
  | "file_unrecognized"
  | "file_version_unsupported"
  | "file_truncated"
  | "file_header_mismatch"
  | "file_damaged";

/** A place in the request with an unusable value. */
export interface Place {
  /** A JSON pointer into the body, or `header:`, `query:` or `path:` and a name. */
  readonly pointer: string;
  /** What the gateway expects there. */
  readonly expected: string;
}

/** The members of a `ClavigerError`. */
export interface ErrorMembers {
  readonly code: ErrorCode | ClientErrorCode;
  readonly title?: string | undefined;
  readonly status?: number | undefined;
  readonly whatToDo?: string | undefined;
  readonly requestId?: string | undefined;
  readonly isRetryable?: boolean | undefined;
  readonly maybeExecuted?: boolean | undefined;
  readonly retryAfter?: number | undefined;
  readonly auditIndex?: string | undefined;
  readonly errors?: readonly Place[] | undefined;
  readonly createdId?: string | undefined;
  readonly provider?: string | undefined;
  readonly providerMessage?: string | undefined;
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

/** A call failed. A code that this release does not know has this class itself: go by `status` and `isRetryable` then. */
export class ClavigerError extends Error {
  /** The error code, such as `key_disabled`. */
  readonly code: ErrorCode | ClientErrorCode;
  /** Short name of the kind of problem. */
  readonly title: string;
  /** What happened, in one sentence. */
  readonly detail: string;
  /** How to correct the problem. */
  readonly whatToDo: string | undefined;
  /** The HTTP status; undefined if no response came. */
  readonly status: number | undefined;
  /** The gateway's id of the request, which is in its audit record, too. */
  readonly requestId: string | undefined;
  /** Whether the same call may succeed later. The client has then retried it already where that is safe. */
  readonly isRetryable: boolean;
  /** Whether the gateway may have carried out the request, in the last attempt or one before it, although no usable response came. */
  readonly maybeExecuted: boolean;
  /** Milliseconds after which the gateway expects a retry to help. */
  readonly retryAfter: number | undefined;
  /** The place of the request's record in the audit log. */
  readonly auditIndex: string | undefined;
  /** The places in the request with unusable values. */
  readonly errors: readonly Place[];
  /** Of `already_created`: the id of what the first request created. */
  readonly createdId: string | undefined;
  /** The kind of provider that refused the call or failed. */
  readonly provider: string | undefined;
  /** The provider's own message. */
  readonly providerMessage: string | undefined;
  /** Members of the problem that this release does not know. Not enumerable: a later gateway may add a secret. */
  declare readonly extra: Readonly<Record<string, unknown>>;
  /** Of a batch in several requests: the results of those that succeeded before this one failed. Not enumerable. */
  declare readonly results: readonly unknown[];

  constructor(detail: string, members: ErrorMembers) {
    const { code, errors = [], providerMessage, whatToDo, requestId } = members;
    const parts = [`${detail} [${code}]`, ...errors.map((place) => `${place.pointer}: expected ${place.expected}.`)];
    parts.push(providerMessage ? `The provider: ${providerMessage}` : "", whatToDo ?? "", requestId ? `(request ${requestId})` : "");
    super(parts.filter(Boolean).join(" "));
    this.name = new.target.name;
    this.code = code;
    this.title = members.title ?? "";
    this.detail = detail;
    this.whatToDo = whatToDo;
    this.status = members.status;
    this.requestId = requestId;
    this.isRetryable = members.isRetryable ?? false;
    this.maybeExecuted = members.maybeExecuted ?? false;
    this.retryAfter = members.retryAfter;
    this.auditIndex = members.auditIndex;
    this.errors = errors;
    this.createdId = members.createdId;
    this.provider = members.provider;
    this.providerMessage = providerMessage;
    Object.defineProperty(this, "name", { enumerable: false });
    Object.defineProperty(this, "extra", { value: members.extra ?? {} });
    Object.defineProperty(this, "results", { value: [], writable: true });
  }
}

/** The gateway refuses the request as it is; `errors` has the places. */
export class InvalidRequestError extends ClavigerError {}

/** The wrapped key is damaged, is none, or is of a later version of the format. */
export class InvalidEnvelopeError extends InvalidRequestError {}

/** There is no valid token: it is expired, revoked or damaged. */
export class UnauthenticatedError extends ClavigerError {}

/** The token does not permit the operation. It is the same whether or not the object exists. */
export class PermissionDeniedError extends ClavigerError {}

/** There is no such object. */
export class NotFoundError extends ClavigerError {}

/** The request does not go with the state of an object, or with another request. */
export class ConflictError extends ClavigerError {}

/** The name or the provider key is taken. */
export class AlreadyExistsError extends ConflictError {}

/** A request with this idempotency key has made the token, whose text was shown once. `createdId` is its id. */
export class AlreadyCreatedError extends ConflictError {}

/** The object changed since its etag was read: read it again, then decide again. */
export class PreconditionFailedError extends ConflictError {}

/** The tenant has as many objects, or as many bytes of audit records today, as its quota allows. */
export class QuotaExceededError extends ConflictError {}

/** The key is switched off: disabled, in a state without this use, or on a severed connection. */
export class KeyUnusableError extends ClavigerError {}

/** The wrapped key does not open: another key, tenant or context. The gateway does not say which. */
export class CiphertextRejectedError extends ClavigerError {}

/** The key's provider refuses the call, is set up wrongly, or does not work. */
export class ProviderError extends ClavigerError {}

/** The provider refuses the gateway, or the owner of an external key denies the call. */
export class ProviderDeniedError extends ProviderError {}

/** The provider is not reached or fails, or the gateway pauses the calls to it. */
export class ProviderUnavailableError extends ProviderError {}

/** The credential, the tenant or the connection has its share under way, or the provider throttles. */
export class RateLimitedError extends ClavigerError {}

/** The gateway cannot serve the request now. */
export class UnavailableError extends ClavigerError {}

/** The revocation took effect, but is not yet recorded, or ends when the gateway ends. */
export class RevocationNotDurableError extends ClavigerError {}

/** The provider, or this gateway, does not support the operation. */
export class UnsupportedError extends ClavigerError {}

/** The deadline passed, here or at the gateway. `requestId` is undefined if it passed here. */
export class DeadlineExceededError extends ClavigerError {}

/** There is no usable token to send: the file is missing, unreadable or no token. */
export class TokenError extends ClavigerError {}

/** An encrypted file does not open because of its own bytes. Another attempt gives the same; take another copy. */
export class FileError extends ClavigerError {}

/** This is not a file that a Claviger client encrypted. */
export class FileUnrecognizedError extends FileError {}

/** A later release wrote the file, in another version of the format. */
export class FileVersionError extends FileError {}

/** The end of the file is missing. */
export class FileTruncatedError extends FileError {}

/** The wrapped key is that of another file, or the beginning of the file was changed. */
export class FileHeaderMismatchError extends FileError {}

/** A part of the file was changed, moved, taken away or added. */
export class FileDamagedError extends FileError {}

/** No usable response came from a gateway. `maybeExecuted` says whether the request may have been carried out. */
export class TransportError extends ClavigerError {}

/** The connection was refused or could not be made. Nothing was sent. */
export class GatewayUnreachableError extends TransportError {}

/** The gateway's certificate is not trusted. Nothing was sent. */
export class UntrustedCertificateError extends TransportError {}

/** The connection ended before a response came. */
export class ConnectionLostError extends TransportError {}

/** The response ended too early. */
export class TruncatedResponseError extends TransportError {}

/** The response is not one of a gateway, such as the HTML page of a proxy. */
export class UnexpectedResponseError extends TransportError {}

const CLASSES: Readonly<Record<KnownErrorCode, typeof ClavigerError>> = {
  invalid_request: InvalidRequestError,
  invalid_envelope: InvalidEnvelopeError,
  envelope_version_unsupported: InvalidEnvelopeError,
  operator_only_setting: InvalidRequestError,
  connection_refused_at_check: InvalidRequestError,
  unauthenticated: UnauthenticatedError,
  permission_denied: PermissionDeniedError,
  not_found: NotFoundError,
  method_not_allowed: InvalidRequestError,
  too_large: InvalidRequestError,
  unsupported_media_type: InvalidRequestError,
  already_exists: AlreadyExistsError,
  already_created: AlreadyCreatedError,
  in_progress: ConflictError,
  idempotency_mismatch: ConflictError,
  provider_key_taken: AlreadyExistsError,
  key_disabled: KeyUnusableError,
  key_state: KeyUnusableError,
  connection_severed: KeyUnusableError,
  in_use: ConflictError,
  managed_by_config: ConflictError,
  quota_exceeded: QuotaExceededError,
  precondition_failed: PreconditionFailedError,
  ciphertext_rejected: CiphertextRejectedError,
  provider_denied: ProviderDeniedError,
  external_denied: ProviderDeniedError,
  connection_misconfigured: ProviderError,
  rate_limited: RateLimitedError,
  internal: ClavigerError,
  unsupported: UnsupportedError,
  provider_protocol: ProviderError,
  provider_unavailable: ProviderUnavailableError,
  circuit_open: ProviderUnavailableError,
  audit_unavailable: UnavailableError,
  effective_not_recorded: RevocationNotDurableError,
  effective_in_memory_only: RevocationNotDurableError,
  not_ready: UnavailableError,
  deadline_exceeded: DeadlineExceededError,
};

/** What the headers of the response say beside the problem. */
export interface OfResponse {
  readonly status?: number | undefined;
  readonly retryAfter?: number | undefined;
  readonly auditIndex?: string | undefined;
}

/** The error of a problem document (RFC 9457). Members of another type than documented are left out. */
export function problemError(problem: Readonly<Record<string, unknown>>, of: OfResponse = {}): ClavigerError {
  const text = (name: string): string | undefined => {
    const value = problem[name];
    return typeof value === "string" ? value : undefined;
  };
  const code = text("code") ?? "";
  const status = problem["status"];
  const Class = Object.hasOwn(CLASSES, code) ? CLASSES[code as KnownErrorCode] : ClavigerError;
  return new Class(text("detail") ?? "The request failed.", {
    code,
    title: text("title"),
    status: of.status ?? (typeof status === "number" ? status : undefined),
    whatToDo: text("what_to_do"),
    requestId: text("request_id"),
    isRetryable: problem["retryable"] === true,
    maybeExecuted: code === "deadline_exceeded",
    retryAfter: of.retryAfter,
    auditIndex: of.auditIndex,
    errors: places(problem["errors"]),
    createdId: text("created_id"),
    provider: text("provider"),
    providerMessage: text("provider_message"),
    extra: Object.fromEntries(Object.entries(problem).filter(([name]) => !PROBLEM_MEMBERS.has(name))),
  });
}

function places(value: unknown): Place[] {
  const found = Array.isArray(value) ? value : [];
  const text = (member: unknown) => (typeof member === "string" ? member : "");
  return found
    .filter((place) => typeof place === "object" && place !== null)
    .map((place: Record<string, unknown>) => ({ pointer: text(place["pointer"]), expected: text(place["expected"]) }));
}
