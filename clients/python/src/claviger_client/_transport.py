"""What the sync and the async client share about httpx: how to set it up, and what its errors mean."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from ._calls import Request, Response
from .errors import (
    ClavigerError,
    ConnectionLostError,
    DeadlineExceededError,
    GatewayUnreachableError,
    TruncatedResponseError,
    UnexpectedResponseError,
    UntrustedCertificateError,
)

# As much as the largest batch, in plain and wrapped, can return, and more.
MAX_RESPONSE = 64 << 20
_CONNECT = 5.0

Authority = str | os.PathLike[str] | ssl.SSLContext | None


def check_address(address: str, allow_plain_http: bool) -> str:
    """Check the form of an address, and return it without a slash at its end."""
    try:
        parts, _ = urlsplit(address), httpx.URL(address)
    except (ValueError, httpx.InvalidURL):
        raise ValueError("the address is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address must begin with https:// (or http://) and a host")
    if parts.username is not None or parts.query or parts.fragment or parts.port == 0:
        raise ValueError("the address may have only a scheme, a host, a port and a path")
    if parts.scheme == "http" and not allow_plain_http and not _loopback(parts.hostname):
        raise ValueError("a token is sent to another host only over https (or with allow_plain_http=True)")
    return address.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def settings(address: str, authority: Authority) -> dict[str, Any]:
    """The arguments of httpx's clients."""
    if isinstance(authority, ssl.SSLContext):
        verify = authority
    elif address.startswith("http:"):
        # Verifies nothing, so the client works on a system without authorities, too.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        # The system's authorities, as of other programs, and not httpx's own list.
        verify = _context(None if authority is None else os.fspath(authority))
    # Keys and tokens pass no proxy that an environment variable names, and follow no redirect.
    return {"verify": verify, "trust_env": False, "follow_redirects": False, "headers": {}}


def _context(file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        # Its own text has no path.
        raise ValueError(f"ca: {file} is no file with PEM certificates ({error.strerror or error})") from None


def outgoing(request: Request) -> dict[str, Any]:
    """The arguments of `stream`."""
    headers = dict(request.headers)
    if request.token is not None:
        headers["Authorization"] = f"Bearer {request.token.expose()}"
    timeout = httpx.Timeout(request.seconds, connect=min(_CONNECT, request.seconds))
    return {"method": request.method, "url": request.url, "headers": headers, "content": request.body, "timeout": timeout}


def incoming(response: httpx.Response, chunks: list[bytes]) -> Response:
    """The complete response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, b"".join(chunks))


class Unusable(Exception):
    """A response is not read to its end."""


class TooLarge(Unusable):
    """It is longer than any of the API."""


class Overdue(Unusable):
    """The deadline passed while it came in piece by piece."""


def take(chunk: bytes, chunks: list[bytes], end: float) -> None:
    """Add a piece of a response, which has to be complete at `end`."""
    if sum(map(len, chunks)) + len(chunk) > MAX_RESPONSE:
        raise TooLarge
    if time.monotonic() > end:
        raise Overdue
    chunks.append(chunk)


def meaning(error: Exception, address: str, begun: bool) -> ClavigerError:
    """The error of the client for one of httpx, whose own text and traceback could contain the request's headers.

    `begun` says whether the response's headers had come.
    """
    host = urlsplit(address).netloc
    causes = list(_causes(error))
    reason = next((text for text in map(_reason, causes) if text), type(error).__name__)
    if isinstance(error, TooLarge):
        return UnexpectedResponseError(
            f"The response of {host} is larger than any of a Claviger gateway.",
            code="unexpected_response",
            title="Unexpected response",
            what_to_do="Check the address, and what is between the client and the gateway.",
            maybe_executed=True,
        )
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return UntrustedCertificateError(
            f"The certificate of {host} is not trusted: {reason}.",
            code="certificate_untrusted",
            title="Certificate not trusted",
            what_to_do="Give the authority that signed it as ca=, and use a name in the address that is in the certificate.",
        )
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        busy = isinstance(error, httpx.PoolTimeout)
        tls = any(isinstance(cause, ssl.SSLError) for cause in causes)
        advice = "Check the address, and that the gateway runs and can be reached from here."
        if busy:
            advice = "Make fewer calls at once with one client, or allow more time."
        elif tls:
            advice = "Check that the address has the right scheme (http or https) and port."
        return GatewayUnreachableError(
            f"No connection to {host}: {'all connections of the client are in use' if busy else reason}.",
            code="gateway_unreachable",
            title="Gateway unreachable",
            what_to_do=advice,
            retryable=not tls,
        )
    if isinstance(error, (httpx.TimeoutException, Overdue)):
        return DeadlineExceededError(
            f"{host} did not answer within the deadline.",
            code="deadline_exceeded",
            title="Deadline exceeded",
            what_to_do="Allow more time, or check what the gateway waits for (/readyz, and the log of the gateway).",
            retryable=True,
            maybe_executed=True,
        )
    if begun:
        return TruncatedResponseError(
            f"The response of {host} ended too early: {reason}.",
            code="response_truncated",
            title="Response truncated",
            what_to_do="Repeat the call. If it happens again, check what is between the client and the gateway.",
            retryable=True,
            maybe_executed=True,
        )
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return UnexpectedResponseError(
            f"{host} does not speak HTTP.",
            code="unexpected_response",
            title="Unexpected response",
            what_to_do="Check that the address has the right scheme (http or https) and port.",
            maybe_executed=True,
        )
    return ConnectionLostError(
        f"The connection to {host} ended before the response: {reason}.",
        code="connection_lost",
        title="Connection lost",
        what_to_do="Repeat the call if that is safe. If it happens again, check that the gateway runs, that the address has the right "
        "scheme (http or https), and what is between.",
        retryable=True,
        maybe_executed=True,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: BaseException) -> str | None:
    """The operating system's or the TLS library's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None:
        # asyncio's own text repeats the address instead of the reason.
        return ((error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno)) or "").lower() or None
    if isinstance(error, httpx.ConnectTimeout):
        return "it took too long"
    if isinstance(error, httpx.RemoteProtocolError):
        return str(error).rstrip(".").lower() or None
    return None
