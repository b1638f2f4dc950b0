"""Connections: credentials and settings to reach a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._calls import Call, Listing, Repeat, path
from .._surface import listing, operation
from ..models import CheckResult, Connection, ConnectionCapabilities, ConnectionList, TimeoutRules
from ._build import body, query


class ConnectionOperations:
    """Operations on connections."""

    @operation
    def create_connection(
        self,
        name: str,
        provider: str,
        settings: Mapping[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        timeouts: TimeoutRules | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Connection]:
        """Create a connection to a provider.

        The module `claviger_client.models.settings` has a type for the settings of each provider. Secrets in
        them may be `SecretStr`.
        """
        made = body(name=name, provider=provider, settings=settings or {}, labels=labels, timeouts=timeouts)
        return Call("POST", path("connections"), Connection, Repeat.BY_KEY, made, idempotency_key=idempotency_key)

    @listing
    def list_connections(self, *, page_size: int | None = None) -> Listing[Connection]:
        """Iterate over the connections, ordered by name."""
        return Listing(Call("GET", path("connections"), ConnectionList, Repeat.SAFE, query=query(page_size=page_size)))

    @operation
    def get_connection(self, connection: str) -> Call[Connection]:
        """Read a connection, with its login, circuit and health."""
        return Call("GET", path("connections", connection), Connection, Repeat.SAFE)

    @operation
    def update_connection(
        self,
        connection: str,
        *,
        etag: str,
        settings: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        timeouts: TimeoutRules | None = None,
    ) -> Call[Connection]:
        """Change a connection that is still as its `etag` says; `"*"` for any state.

        settings: `ca`, `proxy` and `address`; None as a value removes `ca` or `proxy`.
        """
        made = body(settings=settings, secrets=secrets, labels=labels, timeouts=timeouts)
        return Call("PATCH", path("connections", connection), Connection, Repeat.NEVER, made, headers={"If-Match": etag})

    @operation
    def delete_connection(self, connection: str) -> Call[None]:
        """Delete a connection that no version of a key uses."""
        return Call("DELETE", path("connections", connection), None, Repeat.NEVER)

    @operation
    def check_connection(self, connection: str) -> Call[CheckResult]:
        """Test each right that the connection needs at its provider. It may log in, which the provider counts."""
        return Call("POST", path("connections", connection, "check"), CheckResult, Repeat.NEVER)

    @operation
    def get_connection_capabilities(self, connection: str) -> Call[ConnectionCapabilities]:
        """Read what the provider supports, and where it is done."""
        return Call("GET", path("connections", connection, "capabilities"), ConnectionCapabilities, Repeat.SAFE)

    @operation
    def sever_connection(self, connection: str) -> Call[Connection]:
        """Block a connection from the next request on, cached data keys included.

        A `RevocationNotDurableError` says that it took effect nevertheless.
        """
        return Call("POST", path("connections", connection, "sever"), Connection, Repeat.SAFE)

    @operation
    def restore_connection(self, connection: str, *, idempotency_key: str | None = None) -> Call[Connection]:
        """Open a severed connection again, with credentials that are fetched anew."""
        return Call("POST", path("connections", connection, "restore"), Connection, Repeat.BY_KEY, idempotency_key=idempotency_key)
