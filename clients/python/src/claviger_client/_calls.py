"""What is to be done, without doing it: requests and responses, calls, and the steps between them."""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from .errors import ClavigerError
from .secrets import SecretStr

T = TypeVar("T")
Covariant = TypeVar("Covariant", covariant=True)


@dataclass(frozen=True, slots=True)
class Request:
    """A request, ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    # Not printed: bodies have plaintexts.
    body: bytes | None = field(repr=False)
    token: SecretStr | None
    seconds: float
    """The time until the response must be complete."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Send:
    """Step: send the request. Its outcome is a `Response`, or the error that kept it from coming."""

    request: Request


@dataclass(frozen=True, slots=True)
class Sleep:
    """Step: wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GetToken:
    """Step: ask the token source. Its outcome is the token, or a `TokenError`."""


Step = Send | Sleep | GetToken
Outcome = Response | ClavigerError | SecretStr | None
Steps = Generator[Step, Outcome, T]


class Repeat(enum.Enum):
    """Whether a request may be sent again when its response was lost."""

    SAFE = enum.auto()
    """Nothing changes, or the same state results, whichever attempt is carried out."""

    BY_KEY = enum.auto()
    """An idempotency key makes it safe."""

    NEVER = enum.auto()
    """The caller must look: the second attempt can fail because of the first one."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call of the API. Unlike a request it has no address, credential or deadline."""

    method: str
    path: str
    returns: Any
    """The type of the result: a model, `str` for plain text, None if there is no body."""
    repeat: Repeat
    body: bytes | None = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    also_success: int | None = None
    """An error status whose body is a result nevertheless."""
    credential: bool = True

    def __post_init__(self) -> None:
        # Otherwise the HTTP library would refuse the request, which looks like a connection that failed.
        if not all(_printable(value) for value in self.headers.values()):
            raise ValueError("an etag has printable ASCII characters only")
        key = self.idempotency_key
        if key is not None and not (_printable(key) and " " not in key and 0 < len(key) <= 255):
            raise ValueError("an idempotency key has 1 to 255 printable ASCII characters without spaces")


class Page(Protocol[Covariant]):
    """A page of a list."""

    @property
    def items(self) -> tuple[Covariant, ...]: ...
    @property
    def next_page_token(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list, page by page."""

    first: Call[Page[T]]


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """A batch in as many requests as its size needs, one after the other."""

    calls: tuple[Call[Any], ...]
    sizes: tuple[int, ...]
    """The number of items in each."""


def _printable(text: str) -> bool:
    return all(" " <= character <= "~" for character in text)


def path(*segments: str) -> str:
    """The path of `/v1/` and these segments."""
    for segment in segments:
        if not isinstance(segment, str):
            raise TypeError("a name is text")
        # Removed from URLs by whoever reads them, so that another object would be meant.
        if segment in ("", ".", ".."):
            raise ValueError("a name is empty or consists of dots")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
