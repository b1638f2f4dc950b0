"""Secrets that do not print.

Python cannot erase memory: a secret stays in the process until its memory is used again. These types keep
it out of logs, tracebacks, JSON and pickles, which is where secrets get lost.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import ClassVar, Generic, NoReturn, TypeVar

Content = TypeVar("Content", bytes, str)


class _Secret(Generic[Content]):
    __slots__ = ("_read",)

    _kind: ClassVar[type]

    # Equality in constant time excludes use as a dictionary's key, which compares hashes first.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, content: Content) -> None:
        if not isinstance(content, self._kind):
            raise TypeError(f"the content of a {type(self).__name__} is of the type {self._kind.__name__}")
        # A function: what shows or serializes an object's attributes, such as a debugger, finds no content among them.
        self._read: Callable[[], Content] = lambda: content

    def expose(self) -> Content:
        """Return the content. Keep it as briefly as you can, and do not log it."""
        return self._read()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __format__(self, specification: str) -> str:
        return repr(self)

    def __len__(self) -> int:
        return len(self._read())

    # Otherwise an empty secret would be false, and `if data_key.plaintext:` a trap.
    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._read()), _bytes(other._read()))

    def __copy__(self) -> _Secret[Content]:
        return self

    # dataclasses.asdict copies deeply.
    def __deepcopy__(self, memo: object) -> _Secret[Content]:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not serialized; call expose() where the content must leave")


class SecretBytes(_Secret[bytes]):
    """Bytes that do not print: a data key, or an unwrapped plaintext.

    `repr`, `str` and formatting show no content, `json` and `pickle` raise `TypeError`, and `==` takes the
    same time for every content of the same length. `expose()` returns the bytes.
    """

    __slots__ = ()

    _kind = bytes


class SecretStr(_Secret[str]):
    """Text that does not print: a token. See `SecretBytes`."""

    __slots__ = ()

    _kind = str


def _bytes(content: bytes | str) -> bytes:
    return content if isinstance(content, bytes) else content.encode()
