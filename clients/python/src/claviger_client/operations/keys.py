"""Keys: what wraps data keys."""

from __future__ import annotations

from collections.abc import Mapping

from .._calls import Call, Listing, Repeat, path
from .._surface import listing, operation
from ..models import CacheRules, Key, KeyList, KeyVersion, VersionList
from ._build import body, query


class KeyOperations:
    """Operations on keys."""

    @operation
    def create_key(
        self,
        name: str,
        connection: str,
        *,
        spec: str | None = None,
        provider_key: str | None = None,
        labels: Mapping[str, str] | None = None,
        cache: CacheRules | None = None,
        id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Key]:
        """Create a key at the connection's provider, or adopt the key that `provider_key` names there.

        spec: a word of `Spec`; aes-256 if it is left out. id: for platform operators.
        """
        made = body(name=name, connection=connection, spec=spec, provider_key=provider_key, labels=labels, cache=cache, id=id)
        return Call("POST", path("keys"), Key, Repeat.BY_KEY, made, idempotency_key=idempotency_key)

    @listing
    def list_keys(
        self,
        *,
        connection: str | None = None,
        state: str | None = None,
        label: tuple[str, str] | None = None,
        page_size: int | None = None,
    ) -> Listing[Key]:
        """Iterate over the keys, ordered by name.

        connection: of the primary version. state: a word of `KeyStateFilter`. label: a name and its value.
        """
        parameters = query(connection=connection, state=state, label="=".join(label) if label else None, page_size=page_size)
        return Listing(Call("GET", path("keys"), KeyList, Repeat.SAFE, query=parameters))

    @operation
    def get_key(self, key: str) -> Call[Key]:
        """Read a key."""
        return Call("GET", path("keys", key), Key, Repeat.SAFE)

    @operation
    def update_key(
        self,
        key: str,
        *,
        etag: str,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        cache: CacheRules | None = None,
        allow_export: bool | None = None,
    ) -> Call[Key]:
        """Change a key that is still as its `etag` says; `"*"` for any state.

        To allow export, and to turn the cache on in external custody, needs a justification (`with_options`).
        """
        made = body(name=name, labels=labels, cache=cache, allow_export=allow_export)
        return Call("PATCH", path("keys", key), Key, Repeat.NEVER, made, headers={"If-Match": etag})

    @operation
    def delete_key(self, key: str) -> Call[None]:
        """Detach a key: nothing changes at the provider, and the id stays reserved."""
        return Call("DELETE", path("keys", key), None, Repeat.NEVER)

    @listing
    def list_key_versions(self, key: str, *, page_size: int | None = None) -> Listing[KeyVersion]:
        """Iterate over the versions of a key, oldest first."""
        return Listing(Call("GET", path("keys", key, "versions"), VersionList, Repeat.SAFE, query=query(page_size=page_size)))

    @operation
    def rotate_key(
        self,
        key: str,
        *,
        connection: str | None = None,
        provider_key: str | None = None,
        spec: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Key]:
        """Create a new primary version. With a connection, provider key or spec, the key moves there.

        While the provider has not finished, `rotation.state` of the result is `in_progress`.
        """
        made = body(connection=connection, provider_key=provider_key, spec=spec)
        return Call("POST", path("keys", key, "rotate"), Key, Repeat.BY_KEY, made, idempotency_key=idempotency_key)

    @operation
    def disable_key(self, key: str, *, at_provider: bool | None = None) -> Call[Key]:
        """Disable a key from the next request on; with `at_provider` at its providers, too.

        Read `at_provider.result` then: the key is disabled here even if no provider could be reached. A
        `RevocationNotDurableError` says that the revocation took effect nevertheless.
        """
        return Call("POST", path("keys", key, "disable"), Key, Repeat.SAFE, body(at_provider=at_provider))

    @operation
    def enable_key(self, key: str, *, at_provider: bool | None = None, idempotency_key: str | None = None) -> Call[Key]:
        """Enable a key; with `at_provider` at its providers first."""
        made = body(at_provider=at_provider)
        return Call("POST", path("keys", key, "enable"), Key, Repeat.BY_KEY, made, idempotency_key=idempotency_key)
