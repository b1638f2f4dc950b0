"""Batches are cut to the API's bounds, and come together again in order."""

import json

import pytest
from stub import TOKEN, answer, problem

from claviger_client import (
    ClavigerError,
    Client,
    FailedItem,
    RateLimitedError,
    SecretBytes,
    SecretStr,
    UnexpectedResponseError,
    UnwrapItem,
    WrapItem,
)
from claviger_client.operations import _build


def echo(request):
    """Unwraps each wrapped key to itself, and refuses those that say so."""
    results = []
    for item in request.json["items"]:
        failed = item["wrapped"].startswith("bad")
        error = {
            "code": "ciphertext_rejected",
            "detail": "D.",
            "title": "T",
            "type": "t",
            "status": 422,
            "request_id": "r",
            "retryable": False,
        }
        good = {"key": item["wrapped"][:20], "plaintext": "", "version": 1, "cached": False, "later": True}
        results.append({"error": error} if failed else good)
    return answer(200, {"items": results})


def test_items_are_cut_by_their_number(connect, stub):
    stub.answers = [echo]
    names = [f"bad{number}" if number % 500 == 7 else f"n{number}" for number in range(2500)]
    results = connect(stub.address, TOKEN).batch_unwrap(UnwrapItem(wrapped=name) for name in names)
    assert [len(request.json["items"]) for request in stub.requests] == [1000, 1000, 500]
    assert [isinstance(result, FailedItem) for result in results] == [name.startswith("bad") for name in names]
    assert [result.key for result in results if not isinstance(result, FailedItem)] == [
        name for name in names if not name.startswith("bad")
    ]
    assert results[0].extra == {"later": True}


def test_items_are_cut_by_their_bytes():
    large = [UnwrapItem(wrapped="w" * (22 << 10)) for _ in range(1000)]
    bodies = [body for body, _ in _build.batches(large)]
    assert len(bodies) == 2
    assert all(len(body) <= 16 << 20 for body in bodies)
    # The next item would not have fitted.
    assert len(bodies[0]) + len(_build.text(large[0])) + 1 > 16 << 20
    assert sum(len(json.loads(body)["items"]) for body in bodies) == 1000


def test_a_body_may_be_exactly_as_large_as_the_limit(monkeypatch):
    items = [UnwrapItem(wrapped="w" * 50)] * 4
    size = len(next(_build.batches(items))[0])
    monkeypatch.setattr(_build, "MOST_BYTES", size)
    assert [len(json.loads(body)["items"]) for body, size in _build.batches(items)] == [4]
    monkeypatch.setattr(_build, "MOST_BYTES", size - 1)
    assert [len(json.loads(body)["items"]) for body, size in _build.batches(items)] == [3, 1]
    # One item that is too large goes out alone, and the gateway says so.
    monkeypatch.setattr(_build, "MOST_BYTES", 10)
    assert [len(json.loads(body)["items"]) for body, size in _build.batches(items)] == [1, 1, 1, 1]


def test_no_items_are_no_request():
    assert list(_build.batches([])) == []
    assert Client.batch_wrap(None, []).calls == ()
    (call,) = Client.batch_wrap(None, [WrapItem(key="k", plaintext=b"\x00\xff")]).calls
    assert call.body == b'{"items":[{"key":"k","plaintext":"AP8="}]}'


def test_text_is_no_plaintext():
    """It would pass for base64, and other bytes would be wrapped."""
    for text in ("abcd", SecretStr("abcd"), None):
        with pytest.raises(TypeError, match="bytes"):
            WrapItem(key="k", plaintext=text)
        with pytest.raises(TypeError, match="bytes"):
            Client.wrap(None, "k", text)
    with pytest.raises(TypeError, match="bytes"):
        SecretBytes("abcd")
    with pytest.raises(TypeError, match="lists of text"):
        Client.create_token(None, "p", "Unwrap")


def test_a_request_that_fails_as_a_whole(connect, stub):
    stub.answers = [echo, problem("rate_limited", 429, retryable=True)]
    client = connect(stub.address, TOKEN, retries=0)
    with pytest.raises(RateLimitedError) as raised:
        client.batch_unwrap([UnwrapItem(wrapped=f"n{number}") for number in range(1500)])
    assert len(raised.value.results) == 1000
    assert raised.value.results[999].key == "n999"
    stub.answers = [lambda request: answer(200, {"items": json.loads(echo(request).partition(b"\r\n\r\n")[2])["items"][1:]})]
    with pytest.raises(UnexpectedResponseError, match="not one result for each item"):
        client.batch_unwrap([UnwrapItem(wrapped="n"), UnwrapItem(wrapped="m")])
    stub.answers = [answer(200, {"items": [{"key": "n"}]})]
    with pytest.raises(ClavigerError, match="/items/0/cached is not there"):
        client.batch_unwrap([UnwrapItem(wrapped="n")])
