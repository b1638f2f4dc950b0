"""How one definition of an operation becomes a method of both clients.

A function builds the call. On a `Client` it becomes a method that returns the result, and on an
`AsyncClient` a method that returns a coroutine. The signatures stay, for readers and type checkers.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._calls import Batch, Call, Listing

if TYPE_CHECKING:
    from .client import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")


class operation(Generic[P, T]):
    """A method that makes one call."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Call[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return _bind(self._build, client, "_call")


class listing(Generic[P, T]):
    """A method that iterates over a list. A page is fetched when the iteration comes to it."""

    def __init__(self, build: Callable[Concatenate[Any, P], Listing[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Listing[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return _bind(self._build, client, "_iterate")


class batch(Generic[P, T]):
    """A method that makes as many calls as its items need."""

    def __init__(self, build: Callable[Concatenate[Any, P], Batch[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, list[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, list[T]]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Batch[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return _bind(self._build, client, "_batch")


def _bind(build: Callable[..., Any], client: Any, perform: str) -> Callable[..., Any]:
    if client is None:
        return build

    @functools.wraps(build)
    def method(*arguments: Any, **named: Any) -> Any:
        call = build(client, *arguments, **named)
        # A traceback with local variables then shows no plaintext.
        del arguments, named
        return getattr(client, perform)(call)

    # The signature of `build` has the client as its first parameter.
    method.__wrapped__ = functools.partial(build, client)
    return method
