"""Performs the steps of `_file_format`, with and without `await`, between sources and targets of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import os
import stat
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

from ._calls import Call
from ._file_format import Steps
from .client import AsyncClient, Client
from .secrets import SecretBytes

T = TypeVar("T")
Path = str | os.PathLike[str]


def stream(client: Client | AsyncClient, source: Any, steps: Steps[None]) -> Any:
    """An iterator over the output; asynchronous with an `AsyncClient`."""
    if isinstance(client, AsyncClient):
        return _exposed_async(_run_async(client, _reader_async(source), steps))
    return _exposed(_run(client, _reader(source), steps))


def copy(client: Client | AsyncClient, source: Any, target: Any, steps: Steps[None]) -> Any:
    """Write the output to a file; a coroutine with an `AsyncClient`."""
    if isinstance(client, AsyncClient):
        return _copy_async(client, source, target, steps)
    for piece in _run(client, _reader(source), steps):
        _write(target, piece)
    return None


def replace(client: Client | AsyncClient, source: Path, target: Path, steps: Steps[None]) -> Any:
    """Put the output in the place of the target when it is complete; a coroutine with an `AsyncClient`."""
    if isinstance(client, AsyncClient):
        return _replace_async(client, source, target, steps)
    with NewFile(target) as new:
        # Closed before the target is replaced, which may be the same file.
        with open(source, "rb") as file:
            copy(client, file, new.file, steps)
        new.commit()
    return None


class NewFile:
    """A file that takes the place of a target on `commit`. Without that nothing of it is left."""

    file: BinaryIO

    def __init__(self, target: Path) -> None:
        # A symbolic link stays one: what it leads to is replaced.
        self._target = os.path.realpath(os.fsdecode(target))
        self._temporary: str | None = None
        self._mode: int | None = None

    def __enter__(self) -> NewFile:
        with contextlib.suppress(FileNotFoundError):
            self._mode = os.stat(self._target).st_mode
        if self._mode is not None and not stat.S_ISREG(self._mode):
            raise ValueError(f"{self._target} is not a regular file, so it cannot be replaced")
        # Mode 0600.
        descriptor, self._temporary = tempfile.mkstemp(prefix=".claviger-", suffix=".part", dir=os.path.dirname(self._target))
        self.file = open(descriptor, "wb", buffering=0)  # noqa: SIM115
        return self

    def commit(self) -> None:
        """Make the content durable, and then the target's."""
        assert self._temporary is not None
        os.fsync(self.file.fileno())
        self.file.close()
        if self._mode is not None:
            os.chmod(self._temporary, self._mode & 0o777)
        os.replace(self._temporary, self._target)
        self._temporary = None
        if hasattr(os, "O_DIRECTORY"):
            # The target is replaced. Some file systems sync no folders.
            with contextlib.suppress(OSError):
                folder = os.open(os.path.dirname(self._target), os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._temporary is not None:
            self.file.close()
            os.unlink(self._temporary)


def _run(client: Client, read: Callable[[int], bytes], steps: Steps[None]) -> Generator[SecretBytes, None, None]:
    outcome: Any = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration:
            return
        # Not kept over what follows: it can be plaintext.
        outcome = None
        if isinstance(step, SecretBytes):
            yield step
        elif isinstance(step, Call):
            outcome = client._call(step)
        else:
            outcome = read(step.size)


def _exposed(pieces: Generator[SecretBytes, None, None]) -> Generator[bytes, None, None]:
    with contextlib.closing(pieces):
        for piece in pieces:
            yield piece.expose()


def _reader(source: Any) -> Callable[[int], bytes]:
    """What returns the next bytes of a source, and none at its end."""
    if hasattr(source, "read"):
        return lambda size: _checked(source.read(size))
    pieces = map(_checked, source)
    # An empty piece of an iterable is not its end.
    return lambda size: next(filter(None, pieces), b"")


def _checked(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    if piece is None:
        raise BlockingIOError("the source is a file in non-blocking mode")
    raise TypeError(f"the source gives {type(piece).__name__} instead of bytes: is it a path, or a file in text mode?")


def _write(target: Any, piece: SecretBytes) -> None:
    """Write all of it: a file without a buffer may take a part."""
    count = target.write(piece.expose())
    left = memoryview(piece.expose())
    while isinstance(count, int) and 0 < count < len(left):
        left = left[count:]
        count = target.write(left)
    # Other files than the standard library's need not return a count.
    if count == 0 or (count is None and isinstance(target, io.RawIOBase)):
        raise BlockingIOError("the target is a file in non-blocking mode")


async def _copy_async(client: AsyncClient, source: Any, target: Any, steps: Steps[None]) -> None:
    async with contextlib.aclosing(_run_async(client, _reader_async(source), steps)) as pieces:
        async for piece in pieces:
            await _write_async(target, piece)


async def _replace_async(client: AsyncClient, source: Path, target: Path, steps: Steps[None]) -> None:
    # A context is entered in the thread, so that what it opened is closed even if this is cancelled meanwhile.
    with contextlib.ExitStack() as stack:
        new = await _in_thread(lambda: stack.enter_context(NewFile(target)))
        with contextlib.ExitStack() as inner:
            file = await _in_thread(lambda: inner.enter_context(open(source, "rb")))
            await _copy_async(client, file, new.file, steps)
        await _in_thread(new.commit)


async def _run_async(
    client: AsyncClient, read: Callable[[int], Awaitable[bytes]], steps: Steps[None]
) -> AsyncGenerator[SecretBytes, None]:
    outcome: Any = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration:
            return
        outcome = None
        if isinstance(step, SecretBytes):
            yield step
        elif isinstance(step, Call):
            outcome = await client._call(step)
        else:
            outcome = await read(step.size)


async def _exposed_async(pieces: AsyncGenerator[SecretBytes, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield piece.expose()


def _reader_async(source: Any) -> Callable[[int], Awaitable[bytes]]:
    if inspect.iscoroutinefunction(getattr(source, "read", None)):

        async def read(size: int) -> bytes:
            return _checked(await source.read(size))

    elif hasattr(source, "read"):

        async def read(size: int) -> bytes:
            return _checked(await _in_thread(lambda: source.read(size)))

    elif hasattr(source, "__aiter__"):
        pieces = aiter(source)

        async def read(size: int) -> bytes:
            async for piece in pieces:
                if len(piece):
                    return _checked(piece)
            return b""

    else:
        next_piece = _reader(source)

        async def read(size: int) -> bytes:
            return next_piece(size)

    return read


async def _write_async(target: Any, piece: SecretBytes) -> None:
    if isinstance(target, asyncio.StreamWriter):
        target.write(piece.expose())
        await target.drain()
    elif inspect.iscoroutinefunction(target.write):
        await target.write(piece.expose())
    else:
        await _in_thread(lambda: _write(target, piece))


async def _in_thread(function: Callable[[], T]) -> T:
    """Call the function in a thread. If this is cancelled, it waits for the function's end: a file is not closed under it."""
    task = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
