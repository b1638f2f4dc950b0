"""Everything that a call can raise for what the gateway answers, or for what comes in between.

`ClavigerError` is the base. Catch a subclass where you act on it, and read `code` for the exact reason.
Wrong arguments raise `ValueError` or `TypeError` before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A place in the request with an unusable value."""

    pointer: str
    """A JSON pointer into the body, or `header:`, `query:` or `path:` and a name."""

    expected: str
    """What the gateway expects there."""


class ClavigerError(Exception):
    """A call failed.

    A code that this release does not know raises this class itself: go by `status` and `retryable` then.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        title: str = "",
        status: int | None = None,
        what_to_do: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        maybe_executed: bool = False,
        retry_after: float | None = None,
        audit_index: str | None = None,
        errors: tuple[Place, ...] = (),
        created_id: str | None = None,
        provider: str | None = None,
        provider_message: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        """The error code, such as `key_disabled`."""
        self.title = title
        """Short name of the kind of problem."""
        self.detail = detail
        """What happened, in one sentence."""
        self.what_to_do = what_to_do
        """How to correct the problem."""
        self.status = status
        """The HTTP status; None if no response came."""
        self.request_id = request_id
        """The gateway's id of the request, which is in its audit record, too."""
        self.retryable = retryable
        """Whether the same call may succeed later. The client has then retried it already where that is safe."""
        self.maybe_executed = maybe_executed
        """Whether the gateway may have carried out the request, in the last attempt or one before it, although no usable response came."""
        self.retry_after = retry_after
        """Seconds after which the gateway expects a retry to help."""
        self.audit_index = audit_index
        """The place of the request's record in the audit log."""
        self.errors = errors
        """The places in the request with unusable values."""
        self.created_id = created_id
        """Of `already_created`: the id of what the first request created."""
        self.provider = provider
        """The kind of provider that refused the call or failed."""
        self.provider_message = provider_message
        """The provider's own message."""
        self.extra: Mapping[str, Any] = extra or {}
        """Members of the problem that this release does not know."""
        self.results: list[Any] = []
        """Of a batch in several requests: the results of those that succeeded before this one failed."""

    def __str__(self) -> str:
        parts = [f"{self.detail} [{self.code}]"]
        parts += [f"{place.pointer}: expected {place.expected}." for place in self.errors]
        parts += [f"The provider: {self.provider_message}"] if self.provider_message else []
        parts += [self.what_to_do] if self.what_to_do else []
        parts += [f"(request {self.request_id})"] if self.request_id else []
        return " ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        # The results of a batch can contain data keys, so they stay here.
        state = {name: value for name, value in vars(self).items() if name not in ("results", "detail")}
        return _rebuild, (type(self), self.detail, state)


def _rebuild(kind: type[ClavigerError], detail: str, state: dict[str, Any]) -> ClavigerError:
    return kind(detail, **state)


class InvalidRequestError(ClavigerError):
    """The gateway refuses the request as it is; `errors` has the places."""


class InvalidEnvelopeError(InvalidRequestError):
    """The wrapped key is damaged, is none, or is of a later version of the format."""


class UnauthenticatedError(ClavigerError):
    """There is no valid token: it is expired, revoked or damaged."""


class PermissionDeniedError(ClavigerError):
    """The token does not permit the operation. It is the same whether or not the object exists."""


class NotFoundError(ClavigerError):
    """There is no such object."""


class ConflictError(ClavigerError):
    """The request does not go with the state of an object, or with another request."""


class AlreadyExistsError(ConflictError):
    """The name or the provider key is taken."""


class AlreadyCreatedError(ConflictError):
    """A request with this idempotency key has made the token, whose text was shown once. `created_id` is its id."""


class PreconditionFailedError(ConflictError):
    """The object changed since its etag was read: read it again, then decide again."""


class QuotaExceededError(ConflictError):
    """The tenant has as many objects, or as many bytes of audit records today, as its quota allows."""


class KeyUnusableError(ClavigerError):
    """The key is switched off: disabled, in a state without this use, or on a severed connection."""


class CiphertextRejectedError(ClavigerError):
    """The wrapped key does not open: another key, tenant or context. The gateway does not say which."""


class ProviderError(ClavigerError):
    """The key's provider refuses the call, is set up wrongly, or does not work."""


class ProviderDeniedError(ProviderError):
    """The provider refuses the gateway, or the owner of an external key denies the call."""


class ProviderUnavailableError(ProviderError):
    """The provider is not reached or fails, or the gateway pauses the calls to it."""


class RateLimitedError(ClavigerError):
    """The credential, the tenant or the connection has its share under way, or the provider throttles."""


class UnavailableError(ClavigerError):
    """The gateway cannot serve the request now."""


class RevocationNotDurableError(ClavigerError):
    """The revocation took effect, but is not yet recorded, or ends when the gateway ends."""


class UnsupportedError(ClavigerError):
    """The provider, or this gateway, does not support the operation."""


class DeadlineExceededError(ClavigerError):
    """The deadline passed, here or at the gateway. `request_id` is None if it passed here."""


class TokenError(ClavigerError):
    """There is no usable token to send: the file is missing, unreadable or no token."""


class FileError(ClavigerError):
    """An encrypted file does not open because of its own bytes. Another attempt gives the same; take another copy."""


class FileUnrecognizedError(FileError):
    """This is not a file that a Claviger client encrypted."""


class FileVersionError(FileError):
    """A later release wrote the file, in another version of the format."""


class FileTruncatedError(FileError):
    """The end of the file is missing."""


class FileHeaderMismatchError(FileError):
    """The wrapped key is that of another file, or the beginning of the file was changed."""


class FileDamagedError(FileError):
    """A part of the file was changed, moved, taken away or added."""


class TransportError(ClavigerError):
    """No usable response came from a gateway. `maybe_executed` says whether the request may have been carried out."""


class GatewayUnreachableError(TransportError):
    """The connection was refused or could not be made. Nothing was sent."""


class UntrustedCertificateError(TransportError):
    """The gateway's certificate is not trusted. Nothing was sent."""


class ConnectionLostError(TransportError):
    """The connection ended before a response came."""


class TruncatedResponseError(TransportError):
    """The response ended too early."""


class UnexpectedResponseError(TransportError):
    """The response is not one of a gateway, such as the HTML page of a proxy."""


_CLASSES: dict[str, type[ClavigerError]] = {
    "invalid_request": InvalidRequestError,
    "invalid_envelope": InvalidEnvelopeError,
    "envelope_version_unsupported": InvalidEnvelopeError,
    "operator_only_setting": InvalidRequestError,
    "connection_refused_at_check": InvalidRequestError,
    "unauthenticated": UnauthenticatedError,
    "permission_denied": PermissionDeniedError,
    "not_found": NotFoundError,
    "method_not_allowed": InvalidRequestError,
    "too_large": InvalidRequestError,
    "unsupported_media_type": InvalidRequestError,
    "already_exists": AlreadyExistsError,
    "already_created": AlreadyCreatedError,
    "in_progress": ConflictError,
    "idempotency_mismatch": ConflictError,
    "provider_key_taken": AlreadyExistsError,
    "key_disabled": KeyUnusableError,
    "key_state": KeyUnusableError,
    "connection_severed": KeyUnusableError,
    "in_use": ConflictError,
    "managed_by_config": ConflictError,
    "quota_exceeded": QuotaExceededError,
    "precondition_failed": PreconditionFailedError,
    "ciphertext_rejected": CiphertextRejectedError,
    "provider_denied": ProviderDeniedError,
    "external_denied": ProviderDeniedError,
    "connection_misconfigured": ProviderError,
    "rate_limited": RateLimitedError,
    "internal": ClavigerError,
    "unsupported": UnsupportedError,
    "provider_protocol": ProviderError,
    "provider_unavailable": ProviderUnavailableError,
    "circuit_open": ProviderUnavailableError,
    "audit_unavailable": UnavailableError,
    "effective_not_recorded": RevocationNotDurableError,
    "effective_in_memory_only": RevocationNotDurableError,
    "not_ready": UnavailableError,
    "deadline_exceeded": DeadlineExceededError,
}
_MEMBERS = frozenset(
    ("type", "title", "status", "detail", "code", "request_id", "retryable", "errors", "created_id", "provider", "provider_message", "what_to_do")
)


def of_problem(problem: Mapping[str, Any], *, retry_after: float | None = None, audit_index: str | None = None) -> ClavigerError:
    """Make the error of a problem document (RFC 9457). Members of another type than documented are left out."""
    code = _text(problem, "code") or ""
    status = problem.get("status")
    places = problem.get("errors")
    return _CLASSES.get(code, ClavigerError)(
        _text(problem, "detail") or "The request failed.",
        code=code,
        title=_text(problem, "title") or "",
        status=status if isinstance(status, int) else None,
        what_to_do=_text(problem, "what_to_do"),
        request_id=_text(problem, "request_id"),
        retryable=problem.get("retryable") is True,
        maybe_executed=code == "deadline_exceeded",
        retry_after=retry_after,
        audit_index=audit_index,
        errors=tuple(
            Place(_text(place, "pointer") or "", _text(place, "expected") or "")
            for place in (places if isinstance(places, list) else ())
            if isinstance(place, dict)
        ),
        created_id=_text(problem, "created_id"),
        provider=_text(problem, "provider"),
        provider_message=_text(problem, "provider_message"),
        extra={name: value for name, value in problem.items() if name not in _MEMBERS},
    )


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) else None
