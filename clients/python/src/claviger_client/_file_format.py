"""Encrypted files, as docs/file-format.md describes them. Without I/O.

A generator yields what to do next: it is sent some of the source for a `Pull`, and its result for a `Call`. `SecretBytes`
are output, since of a decryption it is plaintext. `_file_io.py` performs these steps.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ._calls import Call
from .client import Client
from .errors import (
    FileDamagedError,
    FileError,
    FileHeaderMismatchError,
    FileTruncatedError,
    FileUnrecognizedError,
    FileVersionError,
    UnexpectedResponseError,
)
from .secrets import SecretBytes

try:
    from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
    from cryptography.exceptions import InvalidTag
except ImportError:
    raise ImportError(
        'claviger_client.files needs the package cryptography, version 50 or later: pip install "claviger-client[files]"'
    ) from None

T = TypeVar("T")
Context = Mapping[str, str]

_MAGIC = b"CLF"
_VERSION = 1
_LENGTH = 4
_MOST_ENVELOPE = 16_384
_SALT_AND_COMMITMENT = 56
_TAG = 16
_SEALED_CHUNK = 16_384 + _TAG
_DATA_KEY = 32
# How much of the source is in memory at once, in bytes. Larger ones make it no faster.
_PIECE = 1 << 18
_WRAPPED = "clv1."
_ENVELOPE = b"CLV\x01"


@dataclass(frozen=True, slots=True)
class Pull:
    """Step: read at most `size` bytes of the source, at least one; none mean its end."""

    size: int


Step = Pull | Call[Any] | SecretBytes
Steps = Generator[Step, Any, T]


def encrypting(key: str, context: Context | None) -> Steps[None]:
    """Encrypt a source under a new data key of the key."""
    generated = yield Client.generate_data_key(None, key, context=context, bytes=_DATA_KEY)
    envelope = _binary(generated.wrapped)
    header = _MAGIC + bytes([_VERSION]) + len(envelope).to_bytes(_LENGTH, "big") + envelope
    encryptor = _encryptor(generated.plaintext, header)
    # From here on only the encryptor has keys, and those are of this file alone.
    del generated
    yield SecretBytes(header)
    source = _Source()
    while piece := (yield from source.some()):
        if ciphertext := encryptor.update(piece):
            yield SecretBytes(ciphertext)
    yield SecretBytes(encryptor.finalize())


def decrypting(key: str | None, context: Context | None) -> Steps[None]:
    """Decrypt a source. What is yielded is authentic, but it is whole only at the end."""
    source = _Source()
    header = yield from _header(source)
    salt_and_commitment = yield from source.field(_SALT_AND_COMMITMENT)
    wrapped = _text(header[len(_MAGIC) + 1 + _LENGTH :])
    if key is None:
        unwrapped = yield Client.unwrap(None, wrapped, context=context)
    else:
        unwrapped = yield Client.unwrap_with_key(None, key, wrapped, context=context)
    decryptor = _decryptor(unwrapped.plaintext, header, salt_and_commitment)
    del unwrapped
    size = 0
    while piece := (yield from source.some()):
        size += len(piece)
        plaintext = _opened(decryptor, piece)
        if len(plaintext):
            yield plaintext
    if size % _SEALED_CHUNK < _TAG:
        raise _truncated()
    plaintext = _opened(decryptor, None)
    if len(plaintext):
        yield plaintext


class _Source:
    """What was pulled, and how much of it is used."""

    def __init__(self) -> None:
        self._pulled = b""
        self._used = 0

    def some(self, size: int = _PIECE) -> Steps[bytes]:
        """At least one byte and at most `size`; none at the end."""
        if self._used == len(self._pulled):
            self._pulled, self._used = b"", 0
            self._pulled = yield Pull(size)
        # A source may give more than it was asked for.
        taken = self._pulled[self._used : self._used + size]
        self._used += len(taken)
        return taken

    def exactly(self, size: int) -> Steps[bytes]:
        """Fewer bytes only at the end."""
        taken = b""
        while len(taken) < size and (more := (yield from self.some(size - len(taken)))):
            taken += more
        return taken

    def field(self, size: int) -> Steps[bytes]:
        """A part of the file that must be whole."""
        taken = yield from self.exactly(size)
        if len(taken) < size:
            raise _truncated()
        return taken


def _header(source: _Source) -> Steps[bytes]:
    """Everything up to the end of the envelope."""
    magic = yield from source.exactly(len(_MAGIC))
    if magic != _MAGIC:
        raise _error(
            FileUnrecognizedError,
            "file_unrecognized",
            "This is not an encrypted file of Claviger.",
            "Check that this is the file that was encrypted, from its first byte on.",
        )
    version = yield from source.field(1)
    if version[0] != _VERSION:
        raise _error(
            FileVersionError,
            "file_version_unsupported",
            f"The file has version {version[0]} of the format, and this release of the client reads version {_VERSION}.",
            "Use a later release of the client.",
        )
    length = yield from source.field(_LENGTH)
    size = int.from_bytes(length, "big")
    if size > _MOST_ENVELOPE:
        raise _damaged(f"The wrapped key in the file has {size} bytes, and {_MOST_ENVELOPE} is the most.")
    envelope = yield from source.field(size)
    return magic + version + length + envelope


def _encryptor(data_key: SecretBytes | None, header: bytes) -> Cobblestone256Encryptor:
    if data_key is None or len(data_key) != _DATA_KEY:
        raise _unexpected(f"The data key in the response has not {_DATA_KEY} bytes.")
    return Cobblestone256Encryptor(data_key.expose(), _derivation_context(header))


def _decryptor(data_key: SecretBytes, header: bytes, salt_and_commitment: bytes) -> Cobblestone256Decryptor:
    if len(data_key) == _DATA_KEY:
        decryptor = Cobblestone256Decryptor(data_key.expose(), _derivation_context(header))
        try:
            # Compares the commitment, and then keeps the derived keys only.
            decryptor.update(salt_and_commitment)
            return decryptor
        except InvalidTag:
            pass
    raise _error(
        FileHeaderMismatchError,
        "file_header_mismatch",
        "The file's header does not belong to its content.",
        "Take another copy of the file. If its wrapped key was replaced by a rewrapped one, put the old one back.",
    )


def _opened(decryptor: Cobblestone256Decryptor, piece: bytes | None) -> SecretBytes:
    """The plaintext of the chunks that are complete; of the last chunk if there is no piece."""
    try:
        return SecretBytes(decryptor.finalize() if piece is None else decryptor.update(piece))
    except (InvalidTag, ValueError):  # ValueError: there are too many chunks
        pass
    raise _damaged("A part of the file's content was changed, moved, taken away or added.")


def _derivation_context(header: bytes) -> bytes:
    return hashlib.sha256(header).digest()


def _binary(wrapped: str) -> bytes:
    """The envelope of a wrapped key."""
    body = wrapped.removeprefix(_WRAPPED)
    try:
        envelope = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        if _text(envelope) == wrapped and envelope.startswith(_ENVELOPE) and len(envelope) <= _MOST_ENVELOPE:
            return envelope
    except ValueError:
        pass
    raise _unexpected("The wrapped key in the response has another version of its format.")


def _text(envelope: bytes) -> str:
    return _WRAPPED + base64.urlsafe_b64encode(envelope).decode().rstrip("=")


def _truncated() -> FileTruncatedError:
    return _error(FileTruncatedError, "file_truncated", "The end of the file is missing.", "Take another copy of the file.")


def _damaged(detail: str) -> FileDamagedError:
    return _error(FileDamagedError, "file_damaged", detail, "Take another copy of the file. This one may have been cut short, too.")


FileErrorKind = TypeVar("FileErrorKind", bound=FileError)


def _error(kind: type[FileErrorKind], code: str, detail: str, what_to_do: str) -> FileErrorKind:
    return kind(detail, code=code, title="File not opened", what_to_do=what_to_do)


def _unexpected(detail: str) -> UnexpectedResponseError:
    return UnexpectedResponseError(
        detail,
        code="unexpected_response",
        title="Unexpected response",
        what_to_do="Check that this release of the client goes with the gateway.",
        maybe_executed=True,
    )
