"""The token's sources: text, a function, a file that is replaced."""

import asyncio
import os
import threading
import time

import pytest
from stub import KEY, OTHER_TOKEN, TOKEN, answer, problem

from claviger_client import AsyncClient, Client, SecretStr, TokenError, UnauthenticatedError

JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.token"


def test_a_replaced_token_file_is_used_from_the_next_call_on(connect, stub, path):
    stub.answers = [answer(200, KEY)]
    client = connect(stub.address, token_file=path)
    path.write_text(f"{TOKEN}\n")
    client.get_key("orders")
    before = path.stat()
    path.write_text(f"{OTHER_TOKEN}\n")
    # Of the same size and, as on a file system with a coarse clock, of the same time.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    client.get_key("orders")
    path.write_text(f" {JWT} ")
    client.get_key("orders")
    assert [request.token for request in stub.requests] == [TOKEN, OTHER_TOKEN, JWT]


def test_a_token_file_that_is_being_replaced_is_waited_for(connect, stub, path):
    stub.answers = [answer(200, KEY)]
    client = connect(stub.address, token_file=path)
    for unfinished in (None, "", TOKEN[:40], "\n"):
        path.unlink(missing_ok=True)
        if unfinished is not None:
            path.write_text(unfinished)

        def finish():
            time.sleep(0.1)
            path.write_text(TOKEN)

        writer = threading.Thread(target=finish)
        writer.start()
        client.get_key("orders")
        writer.join()
    assert {request.token for request in stub.requests} == {TOKEN}


def test_a_token_that_was_revoked_after_it_was_read(connect, stub, path):
    path.write_text(TOKEN)

    def replaced(request):
        path.write_text(OTHER_TOKEN)
        return problem("unauthenticated", 401)

    stub.answers = [replaced, answer(200, KEY)]
    assert connect(stub.address, token_file=path).get_key("orders").name == "orders"
    assert [request.token for request in stub.requests] == [TOKEN, OTHER_TOKEN]


def test_a_rejected_token_is_said(connect, stub, path):
    path.write_text(TOKEN)
    stub.answers = [problem("unauthenticated", 401)]
    with pytest.raises(UnauthenticatedError):
        connect(stub.address, token_file=path).get_key("orders")
    assert len(stub.requests) == 1


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe", TOKEN[:50].encode(), b"x" * 20_000])
def test_a_file_without_a_token_is_said(connect, stub, path, content):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenError) as raised:
        connect(stub.address, token_file=path, timeout=0.2).get_key("orders")
    error = raised.value
    assert str(path) in error.detail
    assert error.what_to_do.startswith("Write the token to the file")
    assert (error.code, error.status, error.maybe_executed) == ("token_unusable", None, False)
    assert "No such file" in error.detail or content is not None
    assert TOKEN[:50] not in str(error)
    assert stub.requests == []


def test_a_function_is_asked_for_each_request(connect, stub):
    stub.answers = [answer(200, KEY)]
    tokens = iter([TOKEN, SecretStr(JWT)])
    client = connect(stub.address, lambda: next(tokens))
    client.get_key("orders")
    client.get_key("orders")
    assert [request.token for request in stub.requests] == [TOKEN, JWT]


def test_an_async_function_is_awaited(stub):
    stub.answers = [answer(200, KEY)]

    async def token():
        await asyncio.sleep(0)
        return TOKEN

    async def program():
        async with AsyncClient(stub.address, token) as client:
            await client.get_key("orders")

    asyncio.run(program())
    assert stub.requests[0].token == TOKEN


def test_what_a_function_raises_comes_through(connect, stub):
    def token():
        raise LookupError("no identity")

    with pytest.raises(LookupError, match="no identity"):
        connect(stub.address, token).get_key("orders")
    with pytest.raises(TokenError) as raised:
        connect(stub.address, lambda: "two\nlines").get_key("orders")
    assert "two" not in str(raised.value)


def test_a_client_has_one_source():
    with pytest.raises(ValueError, match="one of token and token_file"):
        Client("http://localhost")
    with pytest.raises(ValueError, match="one of token and token_file"):
        Client("http://localhost", TOKEN, token_file="x")
    with pytest.raises(TypeError, match="token is text"):
        Client("http://localhost", 5)
    with pytest.raises(TokenError):
        Client("http://localhost", "")
    assert TOKEN not in repr(Client("http://localhost", TOKEN))
