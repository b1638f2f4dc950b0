"""Encrypted files: `docs/file-format.md`. Needs `pip install "claviger-client[files]"`.

    from claviger_client import Client, files

    with Client.from_env() as claviger:
        files.encrypt_file(claviger, "orders", "report.pdf", "report.pdf.clv", context={"table": "orders"})
        files.decrypt_file(claviger, "report.pdf.clv", "report.pdf", context={"table": "orders"})

Each file has a data key of its own, which is in its header, wrapped: each function makes one call to the gateway. Files of
any length are read and written piece by piece, in constant memory.

With an `AsyncClient` the functions return coroutines, and the streams are asynchronous. Ordinary files are then read and
written in threads, and an ordinary iterable is iterated on the event loop.

A file that does not open raises a subclass of `FileError`. What the gateway answers is raised as by the client's methods,
and `OSError` as by the files.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from typing import Any, Protocol, overload

from . import _file_format as _format
from . import _file_io as _io
from .client import AsyncClient, Client

Context = _format.Context
Path = str | os.PathLike[str]


class Readable(Protocol):
    """A binary file. `read` returns no bytes at the end only."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """A binary file."""

    def write(self, data: bytes, /) -> object: ...


class AsyncReadable(Protocol):
    """A binary file of an asynchronous library, or an `asyncio.StreamReader`."""

    async def read(self, size: int, /) -> bytes: ...


class AsyncWritable(Protocol):
    """A binary file of an asynchronous library."""

    async def write(self, data: bytes, /) -> object: ...


Source = Readable | Iterable[bytes]
AsyncSource = Source | AsyncReadable | AsyncIterable[bytes]
AsyncTarget = Writable | AsyncWritable | asyncio.StreamWriter


@overload
def encrypt_stream(client: Client, key: str, source: Source, *, context: Context | None = None) -> Iterator[bytes]: ...
@overload
def encrypt_stream(client: AsyncClient, key: str, source: AsyncSource, *, context: Context | None = None) -> AsyncIterator[bytes]: ...
def encrypt_stream(client: Any, key: str, source: Any, *, context: Context | None = None) -> Any:
    """Return the encrypted file piece by piece. The data key is generated at the first piece.

    key: the name of the key that wraps the file's data key. source: a binary file, or an iterable of bytes.
    context: binds the file to pairs of text, which decryption must repeat exactly. It is not secret.
    """
    return _io.stream(client, source, _format.encrypting(key, context))


@overload
def decrypt_stream(client: Client, source: Source, *, context: Context | None = None, key: str | None = None) -> Iterator[bytes]: ...
@overload
def decrypt_stream(
    client: AsyncClient, source: AsyncSource, *, context: Context | None = None, key: str | None = None
) -> AsyncIterator[bytes]: ...
def decrypt_stream(client: Any, source: Any, *, context: Context | None = None, key: str | None = None) -> Any:
    """Return the content of an encrypted file piece by piece. Each piece is authenticated.

    A file that was cut or changed further on raises an error where that is, after the pieces before it. So do not act
    on them before the iteration has ended.

    context: as on encryption. key: the name of the key, if no other one may open the file.
    """
    return _io.stream(client, source, _format.decrypting(key, context))


@overload
def encrypt(client: Client, key: str, source: Source, target: Writable, *, context: Context | None = None) -> None: ...
@overload
def encrypt(
    client: AsyncClient, key: str, source: AsyncSource, target: AsyncTarget, *, context: Context | None = None
) -> Coroutine[Any, Any, None]: ...
def encrypt(client: Any, key: str, source: Any, target: Any, *, context: Context | None = None) -> Any:
    """Encrypt `source` into the binary file `target`. Neither is closed. See `encrypt_stream`.

    If it fails, `target` has a part that does not open.
    """
    return _io.copy(client, source, target, _format.encrypting(key, context))


@overload
def decrypt(client: Client, source: Source, target: Writable, *, context: Context | None = None, key: str | None = None) -> None: ...
@overload
def decrypt(
    client: AsyncClient, source: AsyncSource, target: AsyncTarget, *, context: Context | None = None, key: str | None = None
) -> Coroutine[Any, Any, None]: ...
def decrypt(client: Any, source: Any, target: Any, *, context: Context | None = None, key: str | None = None) -> Any:
    """Decrypt `source` into the binary file `target`. Neither is closed. See `decrypt_stream`.

    If it fails, `target` has the content up to the damage: discard it. `decrypt_file` does that for you.
    """
    return _io.copy(client, source, target, _format.decrypting(key, context))


@overload
def encrypt_file(client: Client, key: str, source: Path, target: Path, *, context: Context | None = None) -> None: ...
@overload
def encrypt_file(
    client: AsyncClient, key: str, source: Path, target: Path, *, context: Context | None = None
) -> Coroutine[Any, Any, None]: ...
def encrypt_file(client: Any, key: str, source: Path, target: Path, *, context: Context | None = None) -> Any:
    """Encrypt the file `source` into the file `target`. Both may be the same.

    Until all of it is written and synced, the result is in a temporary file in the target's folder; then it takes the
    target's place. If anything fails, the target is as before. A new target can be read and written by its
    owner only (mode 0600); an existing one keeps its mode, and must be a regular file.

    key, context: see `encrypt_stream`.
    """
    return _io.replace(client, source, target, _format.encrypting(key, context))


@overload
def decrypt_file(client: Client, source: Path, target: Path, *, context: Context | None = None, key: str | None = None) -> None: ...
@overload
def decrypt_file(
    client: AsyncClient, source: Path, target: Path, *, context: Context | None = None, key: str | None = None
) -> Coroutine[Any, Any, None]: ...
def decrypt_file(client: Any, source: Path, target: Path, *, context: Context | None = None, key: str | None = None) -> Any:
    """Decrypt the file `source` into the file `target`, which is replaced only when all of it is authenticated.

    See `encrypt_file` for the target, and `decrypt_stream` for context and key.
    """
    return _io.replace(client, source, target, _format.decrypting(key, context))
