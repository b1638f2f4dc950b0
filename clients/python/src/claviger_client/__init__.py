"""Client of Claviger, a gateway to key-management services.

    from claviger_client import Client

    with Client("https://claviger.example:8420", token_file="app.token") as claviger:
        data_key = claviger.generate_data_key("orders", context={"table": "orders"})
        encrypt(data_key.plaintext.expose(), ...)   # and store data_key.wrapped beside the result

`AsyncClient` has the same methods for asyncio. `claviger_client.errors` has what they raise, and
`claviger_client.models` what they return. `claviger_client.files` encrypts files.
"""

from ._version import VERSION as __version__
from .client import AsyncClient, Client
from .errors import (
    AlreadyCreatedError,
    AlreadyExistsError,
    CiphertextRejectedError,
    ClavigerError,
    ConflictError,
    ConnectionLostError,
    DeadlineExceededError,
    FileDamagedError,
    FileError,
    FileHeaderMismatchError,
    FileTruncatedError,
    FileUnrecognizedError,
    FileVersionError,
    GatewayUnreachableError,
    InvalidEnvelopeError,
    InvalidRequestError,
    KeyUnusableError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ProviderDeniedError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RevocationNotDurableError,
    TokenError,
    TransportError,
    TruncatedResponseError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedResponseError,
    UnsupportedError,
    UntrustedCertificateError,
)
from .items import GenerateItem, RewrapItem, UnwrapItem, WrapItem
from .models import FailedItem
from .secrets import SecretBytes, SecretStr

__all__ = [
    "AlreadyCreatedError",
    "AlreadyExistsError",
    "AsyncClient",
    "CiphertextRejectedError",
    "ClavigerError",
    "Client",
    "ConflictError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "FailedItem",
    "FileDamagedError",
    "FileError",
    "FileHeaderMismatchError",
    "FileTruncatedError",
    "FileUnrecognizedError",
    "FileVersionError",
    "GatewayUnreachableError",
    "GenerateItem",
    "InvalidEnvelopeError",
    "InvalidRequestError",
    "KeyUnusableError",
    "NotFoundError",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "ProviderDeniedError",
    "ProviderError",
    "ProviderUnavailableError",
    "QuotaExceededError",
    "RateLimitedError",
    "RevocationNotDurableError",
    "RewrapItem",
    "SecretBytes",
    "SecretStr",
    "TokenError",
    "TransportError",
    "TruncatedResponseError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedResponseError",
    "UnsupportedError",
    "UntrustedCertificateError",
    "UnwrapItem",
    "WrapItem",
    "__version__",
]
