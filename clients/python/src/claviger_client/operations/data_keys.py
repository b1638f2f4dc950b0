"""Data keys: generate, wrap, unwrap, rewrap. Nothing is cached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._calls import Batch, Call, Repeat, path
from .._surface import batch, operation
from ..items import GenerateItem, RewrapItem, UnwrapItem, WrapItem, check_plaintext
from ..models import (
    BatchGenerateDataKeysResult,
    BatchRewrapResult,
    BatchUnwrapResult,
    BatchWrapResult,
    DataKey,
    FailedItem,
    GeneratedItem,
    InspectResult,
    RewrappedItem,
    RewrapResult,
    UnwrappedItem,
    UnwrapResult,
    WrappedItem,
    WrapResult,
)
from ..secrets import SecretBytes
from ._build import batches, body

Context = Mapping[str, str]


class DataKeyOperations:
    """Operations on data keys.

    `context` binds a wrapped key to pairs of text, which an unwrap must repeat exactly. It is not secret.
    """

    @operation
    def generate_data_key(
        self, key: str, *, context: Context | None = None, bytes: int | None = None, plaintext: bool | None = None
    ) -> Call[DataKey]:
        """Generate a data key. Store `wrapped` with what you encrypt, and forget `plaintext`.

        bytes: 16, 24, 32 (default), 48 or 64. plaintext: False returns only the wrapped key.
        """
        made = body(bytes=bytes, context=context, plaintext=plaintext)
        return Call("POST", path("keys", key, "data-keys"), DataKey, Repeat.SAFE, made)

    @operation
    def wrap(self, key: str, plaintext: SecretBytes | bytes, *, context: Context | None = None) -> Call[WrapResult]:
        """Wrap 1 to 4096 bytes."""
        plaintext = check_plaintext(plaintext)
        return Call("POST", path("keys", key, "wrap"), WrapResult, Repeat.SAFE, body(plaintext=plaintext, context=context))

    @operation
    def unwrap(self, wrapped: str, *, context: Context | None = None) -> Call[UnwrapResult]:
        """Unwrap with the key that the wrapped key names."""
        return Call("POST", path("unwrap"), UnwrapResult, Repeat.SAFE, body(wrapped=wrapped, context=context))

    @operation
    def unwrap_with_key(self, key: str, wrapped: str, *, context: Context | None = None) -> Call[UnwrapResult]:
        """Unwrap with this key only: what another key wrapped is refused with `CiphertextRejectedError`."""
        return Call("POST", path("keys", key, "unwrap"), UnwrapResult, Repeat.SAFE, body(wrapped=wrapped, context=context))

    @operation
    def rewrap(self, key: str, wrapped: str, *, context: Context | None = None, to: str | None = None) -> Call[RewrapResult]:
        """Wrap the same data key with the key's newest version, or with the key `to`."""
        made = body(wrapped=wrapped, context=context, to=to)
        return Call("POST", path("keys", key, "rewrap"), RewrapResult, Repeat.SAFE, made)

    @operation
    def inspect(self, wrapped: str, *, context: Context | None = None) -> Call[InspectResult]:
        """Read what a wrapped key says about itself. No provider is called."""
        return Call("POST", path("inspect"), InspectResult, Repeat.SAFE, body(wrapped=wrapped, context=context))

    @batch
    def batch_generate_data_keys(self, items: Iterable[GenerateItem]) -> Batch[GeneratedItem | FailedItem]:
        """Generate data keys. See `batch_unwrap`."""
        return _batch("data-keys", items, BatchGenerateDataKeysResult)

    @batch
    def batch_wrap(self, items: Iterable[WrapItem]) -> Batch[WrappedItem | FailedItem]:
        """Wrap plaintexts. See `batch_unwrap`."""
        return _batch("wrap", items, BatchWrapResult)

    @batch
    def batch_unwrap(self, items: Iterable[UnwrapItem]) -> Batch[UnwrappedItem | FailedItem]:
        """Unwrap any number of wrapped keys; return the results in the same order.

        An item that fails is a `FailedItem`, whose `error` is the exception that a single call would raise.
        Items are sent in as many requests as needed, one after the other, each with the client's deadline. If
        one of these fails as a whole, its error is raised, with the results before it in `results`.
        """
        return _batch("unwrap", items, BatchUnwrapResult)

    @batch
    def batch_rewrap(self, items: Iterable[RewrapItem]) -> Batch[RewrappedItem | FailedItem]:
        """Rewrap wrapped keys. See `batch_unwrap`."""
        return _batch("rewrap", items, BatchRewrapResult)


def _batch(name: str, items: Iterable[Any], returns: Any) -> Batch[Any]:
    parts = list(batches(items))
    calls: tuple[Call[Any], ...] = tuple(Call("POST", path("batch", name), returns, Repeat.SAFE, part) for part, _ in parts)
    return Batch(calls, tuple(size for _, size in parts))
