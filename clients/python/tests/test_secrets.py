"""Secrets do not print, and are not serialized by accident."""

import copy
import dataclasses
import inspect
import json
import logging
import pickle
import traceback

import pytest
from stub import KEY, SECRET, TOKEN, UNWRAPPED, answer, problem

from claviger_client import ClavigerError, GenerateItem, SecretBytes, SecretStr, WrapItem
from claviger_client.models import CreatedToken, UnwrapResult


@pytest.mark.parametrize("secret", [SecretBytes(SECRET), SecretStr(SECRET.decode())])
def test_a_secret_does_not_print(secret):
    shown = [repr(secret), str(secret), f"{secret}", "%s %r" % (secret, secret), f"{secret!r:>40}", repr([secret]), f"{secret:x}"]
    assert not any("secret-content" in text for text in shown)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"a": secret})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="expose"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        bytes(secret)
    with pytest.raises(TypeError):
        hash(secret)
    with pytest.raises(TypeError):
        iter(secret)
    assert not hasattr(secret, "__dict__")
    # What a debugger lists, and a serializer that goes by attributes.
    listed = [repr(value) for _, value in inspect.getmembers(secret)]
    assert any("SecretBytes(...)" in text or "SecretStr(...)" in text for text in listed)
    assert not any("secret-content" in text for text in listed)


def test_a_secret_is_compared_and_exposed():
    secret = SecretBytes(SECRET)
    assert secret.expose() == SECRET
    assert secret == SecretBytes(b"secret-content")
    assert secret != SecretBytes(b"secret-contend")
    assert secret != SECRET
    assert SecretStr("a") != SecretBytes(b"a")
    assert SecretStr("clé") == SecretStr("clé")
    assert len(secret) == 14
    assert SecretBytes(b"")
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_models_with_secrets_do_not_print():
    unwrapped = UnwrapResult(plaintext=SecretBytes(SECRET), key="orders", version=1, cached=False, extra={"other": "secret-content"})
    assert "orders" in repr(unwrapped)
    assert "secret-content" not in repr(unwrapped)
    assert "secret-content" not in repr(dataclasses.asdict(unwrapped)["plaintext"])
    assert "secret-content" not in repr(WrapItem(key="orders", plaintext=SECRET))
    assert CreatedToken.__annotations__["token"] == "SecretStr"
    assert GenerateItem(key="orders").bytes is None


def test_nothing_secret_is_logged(acme, gateway, caplog):
    caplog.set_level(logging.DEBUG)
    data_key = acme.generate_data_key("orders")
    unwrapped = acme.unwrap(data_key.wrapped)
    wrapped = acme.wrap("orders", SECRET)
    assert caplog.records
    assert unwrapped.plaintext == data_key.plaintext
    secrets = [data_key.plaintext.expose(), SECRET]
    forms = [form for secret in secrets for form in (repr(secret)[2:-1], secret.hex())] + [gateway.token, gateway.token[17:]]
    for text in (caplog.text, repr(data_key), repr(unwrapped), repr(wrapped)):
        assert not any(form in text for form in forms)


@pytest.mark.parametrize(
    "given",
    [
        answer(200, {**UNWRAPPED, "version": "not a number"}),
        answer(200, {**UNWRAPPED, "plaintext": "c2VjcmV0LWNvbnRlbnQ"}),
        answer(200, b'{"plaintext": "c2VjcmV0LWNvbnRlbnQ='),
        answer(200, UNWRAPPED, length=4000),
        problem("ciphertext_rejected", 422),
        answer(200, b"<html>", kind="text/html"),
        None,
    ],
)
def test_a_traceback_with_local_variables_shows_no_secret(connect, stub, given):
    stub.answers = [given]
    client = connect(stub.address, TOKEN, retries=0)
    call = client.unwrap if given else client.wrap
    arguments = ["clv1.x"] if given else ["orders", SECRET]
    with pytest.raises(ClavigerError) as raised:
        call(*arguments)
    error = raised.value
    assert error.__cause__ is None
    assert error.__context__ is None
    # The first frames are this test's own.
    shown = "".join(traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True).format())
    shown = shown[shown.index("claviger_client/") :]
    for secret in ("secret-content", "c2VjcmV0LWNvbnRlbnQ", TOKEN, TOKEN[17:]):
        assert secret not in shown
        assert secret not in str(error) + repr(error)


def test_a_secret_stays_out_of_the_rest_of_a_response(connect, stub):
    stub.answers = [answer(200, {**KEY, "later_secret": "secret-content"})]
    key = connect(stub.address, TOKEN).get_key("orders")
    assert key.extra == {"later_secret": "secret-content"}
    assert "secret-content" not in repr(key)
