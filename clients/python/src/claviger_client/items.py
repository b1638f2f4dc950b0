"""The items of batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .secrets import SecretBytes


def check_plaintext(plaintext: SecretBytes | bytes) -> SecretBytes | bytes:
    """Refuse text: it would pass for base64, and other bytes than meant would be wrapped."""
    if not isinstance(plaintext, (SecretBytes, bytes)):
        raise TypeError("a plaintext is bytes or SecretBytes")
    return plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateItem:
    """A data key to generate."""

    key: str
    """The key's name."""

    bytes: int | None = None
    """16, 24, 32 (default), 48 or 64."""

    context: Mapping[str, str] | None = None
    """An unwrap must repeat it exactly. It is not secret."""

    plaintext: bool | None = None
    """False: the result has only the wrapped key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapItem:
    """A plaintext to wrap."""

    key: str
    """The key's name."""

    plaintext: SecretBytes | bytes = field(repr=False)
    """1 to 4096 bytes."""

    context: Mapping[str, str] | None = None
    """An unwrap must repeat it exactly. It is not secret."""

    def __post_init__(self) -> None:
        check_plaintext(self.plaintext)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwrapItem:
    """A wrapped key to unwrap."""

    wrapped: str
    """The wrapped key."""

    key: str | None = None
    """The key's name, if no other key may open it."""

    context: Mapping[str, str] | None = None
    """The context that it was wrapped with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrapItem:
    """A wrapped key to rewrap."""

    key: str
    """The name of the key that wrapped it."""

    wrapped: str
    """The wrapped key."""

    context: Mapping[str, str] | None = None
    """The context that it was wrapped with."""

    to: str | None = None
    """Another key to wrap it with."""
