"""How a call is carried out: credential, deadline, retries, and what its response means. Without I/O.

A generator yields each `Step` and is sent the outcome. `Client` and `AsyncClient` perform the steps.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from ._calls import Batch, Call, GetToken, Listing, Page, Repeat, Request, Response, Send, Sleep, Steps
from ._decode import Meta, Mismatch, decode
from ._tokens import TokenSource
from .errors import ClavigerError, DeadlineExceededError, TokenError, TransportError, UnexpectedResponseError, of_problem
from .secrets import SecretStr

T = TypeVar("T")
_log = logging.getLogger("claviger_client")

# The shortest and the longest deadline that the API takes, in seconds.
SHORTEST = 0.1
LONGEST = 9999.0
# Pauses before retries, in seconds.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
# What the API asks for where a retryable problem has no Retry-After.
_PAUSE_AFTER_PROBLEM = 1.0
# A token file that is being replaced is whole again long before this.
_TOKEN_ATTEMPTS = 10
_TOKEN_PAUSE = 0.05
# Statuses of a proxy whose gateway is away.
_GATEWAY_AWAY = (502, 503, 504)


@dataclass(frozen=True)
class Options:
    """The settings of a client."""

    address: str
    tokens: TokenSource
    headers: Mapping[str, str]
    timeout: float
    retries: int
    clock: Callable[[], float] = time.monotonic
    # Full jitter: callers that failed together do not come back together.
    jitter: Callable[[float], float] = lambda longest: random.uniform(0, longest)  # noqa: S311


def carry_out(call: Call[T], options: Options) -> Steps[T]:
    """Send the call until it succeeds, may not be repeated, or has no time left; raise its last error."""
    deadline = options.clock() + options.timeout
    key = call.idempotency_key or (str(uuid.uuid4()) if call.repeat is Repeat.BY_KEY else None)
    last: ClavigerError | None = None
    rejected: SecretStr | None = None
    attempt = 0
    while True:
        token = (yield from _credential(options, deadline, last)) if call.credential else None
        if rejected is not None and token == rejected and last is not None:
            raise last
        left = deadline - options.clock()
        if left <= 0 or (last is not None and left < SHORTEST):
            raise last or _no_time()
        outcome = yield Send(_request(call, options, token, key, left))
        error = _result_or_error(call, outcome)
        if not isinstance(error, ClavigerError):
            return error
        # Of this attempt alone: after one that was not sent, a repetition is as safe as this attempt was.
        pause = _pause(call, error, attempt, options)
        last = _after(last, error)
        if last.code == "unauthenticated" and options.tokens.changes and rejected is None:
            # The token may have been replaced after it was read; a retry with another one is no repetition.
            rejected = token
            continue
        rejected = None
        if pause is None or attempt == options.retries or options.clock() + pause + SHORTEST > deadline:
            raise last
        _log.debug("%s %s: %s; again in %.2f s", call.method, call.path, last.code, pause)
        yield Sleep(pause)
        attempt += 1


def carry_out_batch(batch: Batch[T], options: Options) -> Steps[list[T]]:
    """Carry out the requests of a batch, and join their results in order."""
    results: list[T] = []
    for call, size in zip(batch.calls, batch.sizes, strict=True):
        try:
            page = yield from carry_out(call, options)
            if len(page.items) != size:
                # Results would be taken for those of other items.
                raise _miscounted(page.meta)
        except ClavigerError as error:
            error.results = results
            raise
        results += page.items
    return results


def next_page(listing: Listing[T], page: Page[T] | None) -> Call[Page[T]] | None:
    """The call of the page after this one, or of the first one; None after the last one."""
    if page is None:
        return listing.first
    if page.next_page_token is None:
        return None
    return replace(listing.first, query={**listing.first.query, "page_token": page.next_page_token})


def _after(last: ClavigerError | None, error: ClavigerError) -> ClavigerError:
    """The error of an attempt after another one: what that may have done stays done."""
    error.maybe_executed = error.maybe_executed or (last is not None and last.maybe_executed)
    return error


def _credential(options: Options, deadline: float, last: ClavigerError | None) -> Steps[SecretStr]:
    for _ in range(_TOKEN_ATTEMPTS):
        outcome = yield GetToken()
        if isinstance(outcome, SecretStr):
            return outcome
        assert isinstance(outcome, TokenError)
        error = outcome
        if not error.retryable or options.clock() + _TOKEN_PAUSE > deadline:
            break
        yield Sleep(_TOKEN_PAUSE)
    raise _after(last, error)


def _request(call: Call[Any], options: Options, token: SecretStr | None, key: str | None, left: float) -> Request:
    # The gateway gets a little less, so that its own answer to a passed deadline, with its request id, arrives.
    allowed = max(SHORTEST, left - min(0.25, left / 10))
    headers = {**options.headers, **call.headers, "Claviger-Timeout": f"{int(allowed * 1000)}ms"}
    if key is not None:
        headers["Idempotency-Key"] = key
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    query = f"?{urlencode(call.query)}" if call.query else ""
    return Request(call.method, f"{options.address}{call.path}{query}", headers, call.body, token, left)


def _pause(call: Call[Any], error: ClavigerError, attempt: int, options: Options) -> float | None:
    """Seconds until the call may be sent again; None if it may not."""
    if not error.retryable:
        return None
    least = error.retry_after or 0.0
    if isinstance(error, TransportError) or error.status is None:
        if error.maybe_executed and call.repeat is Repeat.NEVER:
            return None
    else:
        # The gateway itself says that the same request may succeed later.
        least = least or _PAUSE_AFTER_PROBLEM
    return least + options.jitter(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt, 10)))


def _result_or_error(call: Call[T], outcome: Any) -> T | ClavigerError:
    if not isinstance(outcome, Response):
        assert isinstance(outcome, ClavigerError)
        return outcome
    succeeded = 200 <= outcome.status < 300
    if succeeded and call.returns is None and outcome.status == 204:
        return None  # type: ignore[return-value]
    if succeeded and call.returns is str:
        if _kind(outcome) != "text/plain":
            # A page of a proxy is text, too.
            return _unexpected(outcome)
        return outcome.body.decode("utf-8", "replace")  # type: ignore[return-value]
    try:
        body = json.loads(outcome.body)
        succeeded = succeeded or (outcome.status == call.also_success and "code" not in body)
        if succeeded and call.returns is not None:
            meta = Meta(request_id=outcome.headers.get("x-request-id"), audit_index=outcome.headers.get("claviger-audit-index"))
            return decode(call.returns, body, meta)  # type: ignore[no-any-return]
        if not succeeded and isinstance(body, dict) and isinstance(body.get("code"), str) and body["code"]:
            return of_problem(
                {**body, "status": outcome.status},
                retry_after=_retry_after(outcome),
                audit_index=outcome.headers.get("claviger-audit-index"),
            )
    except Mismatch as error:
        return _unexpected(outcome, f"in its body {error}", "Check that this release of the client goes with the gateway.")
    except (ValueError, RecursionError):
        pass
    return _unexpected(outcome)


def _unexpected(response: Response, what: str | None = None, what_to_do: str | None = None) -> UnexpectedResponseError:
    kind = _kind(response)
    away = response.status in _GATEWAY_AWAY
    advice = "Check the address, and what is between the client and the gateway: a proxy or a load balancer answered, or another service."
    if 300 <= response.status < 400:
        advice = "Redirects are not followed. Set the address to where the gateway is."
    elif away:
        advice = "A proxy or a load balancer does not reach the gateway. Check that the gateway runs (/readyz), and what is between."
    return UnexpectedResponseError(
        f"The response is not one of a Claviger gateway: status {response.status}, {what or kind}.",
        code="unexpected_response",
        title="Unexpected response",
        status=response.status,
        what_to_do=what_to_do or advice,
        request_id=response.headers.get("x-request-id"),
        # JSON that ends too early is a response that was lost on the way.
        retryable=away or (response.status < 300 and kind == "application/json" and what is None),
        maybe_executed=response.status < 300 or away,
        retry_after=_retry_after(response),
    )


def _kind(response: Response) -> str:
    return response.headers.get("content-type", "").split(";")[0].strip().lower() or "no content type"


def _miscounted(meta: Meta | None) -> UnexpectedResponseError:
    return UnexpectedResponseError(
        "The response to a batch has not one result for each item.",
        code="unexpected_response",
        title="Unexpected response",
        what_to_do="Check that this release of the client goes with the gateway.",
        request_id=meta.request_id if meta else None,
        maybe_executed=True,
    )


def _retry_after(response: Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 10 else None


def _no_time() -> DeadlineExceededError:
    return DeadlineExceededError(
        "The deadline passed before the request was sent.",
        code="deadline_exceeded",
        title="Deadline exceeded",
        what_to_do="Allow more time.",
        retryable=True,
    )
