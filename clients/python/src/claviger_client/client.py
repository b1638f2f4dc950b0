"""The two clients: what performs the steps, with and without `await`."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx

from . import _core, _tokens, _transport
from ._calls import Batch, Call, GetToken, Listing, Outcome, Page, Request, Sleep, Step, Steps
from ._version import VERSION
from .errors import TokenError
from .operations import Operations

T = TypeVar("T")
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)
Self = TypeVar("Self", bound="_Client[Any]")

_UNSET: Any = object()


class _Client(Operations, Generic[Http]):
    """What both clients share: the settings."""

    _make_http: Callable[..., Http]

    def __init__(
        self,
        address: str,
        token: _tokens.Provided | _tokens.TokenFunction | None = None,
        *,
        token_file: str | os.PathLike[str] | None = None,
        tenant: str | None = None,
        ca: _transport.Authority = None,
        timeout: float | timedelta = 30.0,
        retries: int = 4,
        justification: str | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        """Make a client. Nothing is sent, and the token file is not read, before the first call.

        address: such as `https://claviger.example:8420`. Plain http is for loopback, unless `allow_plain_http`.
        token: an API token or a JWT, as text or `SecretStr`, or a function that returns one and is called for
            each request. An `AsyncClient` awaits what the function returns, if it can be awaited.
        token_file: a file with the token instead. It is read for each request, so it may be replaced.
        tenant: for platform operators: the tenant to act for.
        ca: path of a PEM file with the authorities to trust instead of the system's; or an `ssl.SSLContext`.
        timeout: the deadline of each call with all its retries, in seconds; at least 0.1. Each request of a list
            or a batch has this time. The gateway has a shorter limit of its own for one attempt.
        retries: how often a call is repeated at most.
        justification: the reason of the calls, for the audit records: at most 256 printable ASCII characters.
        """
        self._address = _transport.check_address(address, allow_plain_http)
        self._options = _core.Options(
            address=self._address,
            tokens=_tokens.source(token, token_file),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"claviger-client-python/{VERSION}"},
            timeout=30.0,
            retries=0,
        )
        self._options = self._with(timeout=timeout, retries=retries, tenant=tenant, justification=justification)
        self._http: Http = self._make_http(**_transport.settings(self._address, ca))
        self._owner = True

    @classmethod
    def from_env(cls: type[Self], **settings: Any) -> Self:
        """Make a client of the variables that the command line reads, too; `claviger dev` prints them.

        CLAVIGER_ADDRESS, CLAVIGER_TOKEN_FILE (or else CLAVIGER_TOKEN), and where it is set CLAVIGER_TENANT.
        `settings` are arguments of the class, and go before the variables.
        """
        found = {name: os.environ.get(f"CLAVIGER_{name.upper()}") or None for name in ("address", "token_file", "token", "tenant")}
        if "token" in settings or "token_file" in settings or found["token_file"]:
            found["token"] = None
        if "token" in settings or "token_file" in settings:
            found["token_file"] = None
        arguments = {**found, **settings}
        if not arguments["address"]:
            raise ValueError("CLAVIGER_ADDRESS must be set")
        if not (arguments["token"] or arguments["token_file"]):
            raise ValueError("CLAVIGER_TOKEN_FILE must be set")
        return cls(**arguments)

    def with_options(
        self: Self,
        *,
        tenant: str | None = _UNSET,
        timeout: float | timedelta = _UNSET,
        retries: int = _UNSET,
        justification: str | None = _UNSET,
    ) -> Self:
        """Return a client with other settings that shares this one's connections, and ends with it."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._options = self._with(tenant=tenant, timeout=timeout, retries=retries, justification=justification)
        other._owner = False
        return other

    def _with(self, *, tenant: Any, timeout: Any, retries: Any, justification: Any) -> _core.Options:
        options = self._options
        headers = dict(options.headers)
        for name, value in (("Claviger-Tenant", tenant), ("Claviger-Justification", justification)):
            if value is None:
                headers.pop(name, None)
            elif value is not _UNSET:
                headers[name] = _header(value, name)
        changes: dict[str, Any] = {"headers": headers}
        if timeout is not _UNSET:
            seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
            if not _core.SHORTEST <= seconds <= _core.LONGEST:
                raise ValueError(f"timeout is between {_core.SHORTEST} and {_core.LONGEST:.0f} seconds")
            changes["timeout"] = seconds
        if retries is not _UNSET:
            if retries < 0:
                raise ValueError("retries is not negative")
            changes["retries"] = retries
        return dataclasses.replace(options, **changes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"


class Client(_Client[httpx.Client]):
    """A client of a Claviger gateway. Threads can share it.

    Close it, or use it in a `with` block.
    """

    _make_http = httpx.Client

    def close(self) -> None:
        """Close the connections."""
        if self._owner:
            self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _call(self, call: Call[T]) -> T:
        return self._drive(_core.carry_out(call, self._options))

    def _batch(self, batch: Batch[T]) -> list[T]:
        return self._drive(_core.carry_out_batch(batch, self._options))

    def _iterate(self, listing: Listing[T]) -> Iterator[T]:
        page: Page[T] | None = None
        while (call := _core.next_page(listing, page)) is not None:
            page = self._call(call)
            yield from page.items

    def _drive(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            outcome = self._perform(step)

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        if isinstance(step, GetToken):
            try:
                token = self._options.tokens()
                return _tokens.parse(token)  # type: ignore[arg-type]
            except TokenError as error:
                return error.with_traceback(None)
        return self._send(step.request)

    def _send(self, request: Request) -> Outcome:
        begun, end = False, time.monotonic() + request.seconds
        chunks: list[bytes] = []
        try:
            with self._http.stream(**_transport.outgoing(request)) as response:
                begun = True
                for chunk in response.iter_bytes():
                    _transport.take(chunk, chunks, end)
                return _transport.incoming(response, chunks)
        except (httpx.HTTPError, OSError, _transport.Unusable) as error:
            return _transport.meaning(error, self._address, begun)


class AsyncClient(_Client[httpx.AsyncClient]):
    """A client of a Claviger gateway for asyncio, with the methods of `Client`.

    What returns a value there is awaited here, and lists are iterated with `async for`. Close it, or use it
    in an `async with` block.
    """

    _make_http = httpx.AsyncClient

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owner:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.aclose()

    async def _call(self, call: Call[T]) -> T:
        return await self._drive(_core.carry_out(call, self._options))

    async def _batch(self, batch: Batch[T]) -> list[T]:
        return await self._drive(_core.carry_out_batch(batch, self._options))

    async def _iterate(self, listing: Listing[T]) -> AsyncIterator[T]:
        page: Page[T] | None = None
        while (call := _core.next_page(listing, page)) is not None:
            page = await self._call(call)
            for item in page.items:
                yield item

    async def _drive(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            outcome = await self._perform(step)

    async def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, GetToken):
            try:
                token = self._options.tokens()
                return _tokens.parse(await token if inspect.isawaitable(token) else token)
            except TokenError as error:
                return error.with_traceback(None)
        return await self._send(step.request)

    async def _send(self, request: Request) -> Outcome:
        begun, end = False, time.monotonic() + request.seconds
        chunks: list[bytes] = []
        try:
            async with self._http.stream(**_transport.outgoing(request)) as response:
                begun = True
                async for chunk in response.aiter_bytes():
                    _transport.take(chunk, chunks, end)
                return _transport.incoming(response, chunks)
        except (httpx.HTTPError, OSError, _transport.Unusable) as error:
            return _transport.meaning(error, self._address, begun)


def _header(value: Any, name: str) -> str:
    if not isinstance(value, str) or not all(" " <= character <= "~" for character in value) or len(value) > 256:
        raise ValueError(f"{name} is at most 256 printable ASCII characters")
    return value
