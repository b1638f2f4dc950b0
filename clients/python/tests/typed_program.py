"""A program for the type checker; test_package.py runs mypy on it. It is not executed."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

from claviger_client import AsyncClient, Client, ClavigerError, FailedItem, SecretBytes, SecretStr, UnwrapItem
from claviger_client.models import Key, KeyState, UnwrapResult
from claviger_client.models.batch import UnwrappedItem
from claviger_client.models.settings import AwsSettings


def program(claviger: Client) -> None:
    assert_type(claviger.get_key("orders"), Key)
    assert_type(claviger.list_keys(state=KeyState.ENABLED), Iterator[Key])
    assert_type(claviger.with_options(tenant="acme").unwrap("clv1.x"), UnwrapResult)
    assert_type(claviger.unwrap("clv1.x").plaintext, SecretBytes)
    assert_type(claviger.unwrap("clv1.x").plaintext.expose(), bytes)
    claviger.get_key(1)  # type: ignore[arg-type]
    claviger.get_key(kay="orders")  # type: ignore[call-arg]
    settings: AwsSettings = {"region": "eu-central-1", "auth": {"static": {"access_key_id": "a", "secret_access_key": SecretStr("b")}}}
    claviger.create_connection("aws", "aws", settings)
    for item in claviger.batch_unwrap([UnwrapItem(wrapped="clv1.x")]):
        if isinstance(item, FailedItem):
            assert_type(item.error, ClavigerError)
        else:
            assert_type(item, UnwrappedItem)


async def coroutine(claviger: AsyncClient) -> None:
    assert_type(await claviger.get_key("orders"), Key)
    assert_type(claviger.list_keys(), AsyncIterator[Key])
    assert_type(await claviger.batch_unwrap([]), list[UnwrappedItem | FailedItem])
    await asyncio.create_task(claviger.delete_key("orders"))
    async with claviger as same:
        assert_type(same, AsyncClient)
