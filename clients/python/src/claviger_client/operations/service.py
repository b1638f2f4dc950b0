"""The installation: declared objects, health, metrics and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._calls import Call, Repeat, path
from .._surface import operation
from ..models import DeclaredReport, Liveness, Readiness
from ._build import body


class ServiceOperations:
    """Operations on the installation."""

    @operation
    def plan_declared(self) -> Call[DeclaredReport]:
        """Compare what the gateway's configuration declares with what there is. For platform operators."""
        return Call("POST", path("declared", "plan"), DeclaredReport, Repeat.SAFE)

    @operation
    def apply_declared(self) -> Call[DeclaredReport]:
        """Create what the gateway's configuration declares. For platform operators."""
        return Call("POST", path("declared", "apply"), DeclaredReport, Repeat.NEVER)

    @operation
    def release_declared(self, kind: str, tenant: str, name: str) -> Call[None]:
        """Give an object that is no longer declared to its tenant. For platform operators.

        kind: a word of `ReleasableKind`.
        """
        return Call("POST", path("declared", "release"), None, Repeat.SAFE, body(kind=kind, tenant=tenant, name=name))

    @operation
    def get_health(self) -> Call[Liveness]:
        """Read whether the process runs. Sends no token."""
        return Call("GET", "/healthz", Liveness, Repeat.SAFE, credential=False)

    @operation
    def get_readiness(self) -> Call[Readiness]:
        """Read the state of each part, also while the gateway is not ready. Sends no token."""
        return Call("GET", "/readyz", Readiness, Repeat.SAFE, also_success=503, credential=False)

    @operation
    def get_metrics(self) -> Call[str]:
        """Read the metrics as Prometheus text. Needs a platform operator's token."""
        return Call("GET", "/metrics", str, Repeat.SAFE)

    @operation
    def get_openapi(self) -> Call[Mapping[str, Any]]:
        """Read the OpenAPI document of the gateway. Sends no token."""
        return Call("GET", "/openapi.json", Mapping[str, Any], Repeat.SAFE, credential=False)
