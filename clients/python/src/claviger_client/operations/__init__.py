"""The API's operations, each written once for both clients. A method is named as its operationId is."""

from .access import AccessOperations
from .connections import ConnectionOperations
from .data_keys import DataKeyOperations
from .keys import KeyOperations
from .service import ServiceOperations


class Operations(ConnectionOperations, KeyOperations, DataKeyOperations, AccessOperations, ServiceOperations):
    """All operations."""
