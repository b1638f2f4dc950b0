"""Tenants, principals and their tokens."""

from __future__ import annotations

from collections.abc import Iterable

from .._calls import Call, Listing, Repeat, path
from .._surface import listing, operation
from ..models import Caller, CreatedToken, Principal, PrincipalList, Tenant, TenantList, Token, TokenList
from ._build import Duration, body, query


class AccessOperations:
    """Operations on tenants, principals and tokens."""

    @operation
    def who_am_i(self) -> Call[Caller]:
        """Read the client's own token, and the tenant that its requests act for."""
        return Call("GET", path("whoami"), Caller, Repeat.SAFE)

    @operation
    def create_tenant(self, name: str, *, id: str | None = None, idempotency_key: str | None = None) -> Call[Tenant]:
        """Create a tenant. For platform operators. id: that of a tenant whose wrapped keys are to open again."""
        return Call("POST", path("tenants"), Tenant, Repeat.BY_KEY, body(name=name, id=id), idempotency_key=idempotency_key)

    @listing
    def list_tenants(self, *, page_size: int | None = None) -> Listing[Tenant]:
        """Iterate over the tenants, ordered by name. For platform operators."""
        return Listing(Call("GET", path("tenants"), TenantList, Repeat.SAFE, query=query(page_size=page_size)))

    @operation
    def get_tenant(self, tenant: str) -> Call[Tenant]:
        """Read a tenant. For platform operators."""
        return Call("GET", path("tenants", tenant), Tenant, Repeat.SAFE)

    @operation
    def suspend_tenant(self, tenant: str) -> Call[Tenant]:
        """Refuse every request of the tenant's credentials from the next one on. For platform operators.

        A `RevocationNotDurableError` says that it took effect nevertheless.
        """
        return Call("POST", path("tenants", tenant, "suspend"), Tenant, Repeat.SAFE)

    @operation
    def resume_tenant(self, tenant: str, *, idempotency_key: str | None = None) -> Call[Tenant]:
        """Lift a suspension. For platform operators."""
        return Call("POST", path("tenants", tenant, "resume"), Tenant, Repeat.BY_KEY, idempotency_key=idempotency_key)

    @operation
    def create_principal(self, name: str, *, kind: str | None = None, idempotency_key: str | None = None) -> Call[Principal]:
        """Create a principal. kind: a word of `PrincipalKind`; service_account if it is left out."""
        made = body(name=name, kind=kind)
        return Call("POST", path("principals"), Principal, Repeat.BY_KEY, made, idempotency_key=idempotency_key)

    @listing
    def list_principals(self, *, page_size: int | None = None) -> Listing[Principal]:
        """Iterate over the principals, ordered by name."""
        return Listing(Call("GET", path("principals"), PrincipalList, Repeat.SAFE, query=query(page_size=page_size)))

    @operation
    def get_principal(self, principal: str) -> Call[Principal]:
        """Read a principal."""
        return Call("GET", path("principals", principal), Principal, Repeat.SAFE)

    @operation
    def delete_principal(self, principal: str) -> Call[None]:
        """Delete a principal, which ends its tokens and all below them at the next request."""
        return Call("DELETE", path("principals", principal), None, Repeat.SAFE)

    @operation
    def create_token(
        self,
        principal: str,
        operations: Iterable[str],
        *,
        keys: Iterable[str] | None = None,
        expires_in: Duration | None = None,
        kind: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[CreatedToken]:
        """Issue a token, whose text is in `token` of this result and nowhere else.

        operations: words of `Operation`. keys: names of keys; every key if it is left out. kind: a word of
        `TokenKind`; delegated if it is left out. If the response is lost, the repetition raises
        `AlreadyCreatedError`: revoke the token that it names, and issue another one.
        """
        if isinstance(operations, str) or isinstance(keys, str):
            raise TypeError("operations and keys are lists of text")
        made = body(operations=list(operations), keys=None if keys is None else list(keys), expires_in=expires_in, kind=kind)
        return Call("POST", path("principals", principal, "tokens"), CreatedToken, Repeat.BY_KEY, made, idempotency_key=idempotency_key)

    @listing
    def list_tokens(self, principal: str, *, page_size: int | None = None) -> Listing[Token]:
        """Iterate over the tokens of a principal."""
        return Listing(Call("GET", path("principals", principal, "tokens"), TokenList, Repeat.SAFE, query=query(page_size=page_size)))

    @operation
    def delete_token(self, principal: str, token: str) -> Call[None]:
        """Revoke the token of this id, from the next request on."""
        return Call("DELETE", path("principals", principal, "tokens", token), None, Repeat.SAFE)
