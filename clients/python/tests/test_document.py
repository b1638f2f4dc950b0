"""The client does what openapi/claviger.json says: every operation, parameter, member, word and error code."""

import dataclasses
import enum
import importlib.util
import inspect
import json
import re
import typing

import pytest
from conftest import ROOT
from stub import KEY

from claviger_client import AsyncClient, Client, errors, items
from claviger_client._calls import Batch, Call, Listing, Repeat
from claviger_client._decode import decode
from claviger_client.models import Connection, ConnectionCapabilities, Key, KeyState, Operation
from claviger_client.operations import _build
from claviger_client.words import Word

DOCUMENT = json.loads((ROOT / "openapi" / "claviger.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {o["operationId"]: (method.upper(), path, o) for path, found in DOCUMENT["paths"].items() for method, o in found.items()}
# The client sets these for all calls.
CLIENT_WIDE = {"Claviger-Tenant", "Claviger-Timeout", "Claviger-Justification"}
# The iterator sends it.
OF_LISTS = {"page_token"}


def snake(operation_id):
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", operation_id).lower()


def resolved(schema):
    return SCHEMAS[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def parameters(operation):
    found = (
        DOCUMENT["components"]["parameters"][p["$ref"].rsplit("/", 1)[1]] if "$ref" in p else p for p in operation.get("parameters", [])
    )
    return {parameter["name"]: parameter["in"] for parameter in found}


def built(operation_id):
    """The calls of an operation whose every argument is given."""
    build = getattr(Client, snake(operation_id))
    arguments = {}
    for name, parameter in list(inspect.signature(build).parameters.items())[1:]:
        kind = str(parameter.annotation)
        if "Item]" in kind:
            cls = getattr(items, re.search(r"\w+Item", kind)[0])
            arguments[name] = [cls(**{field.name: b"x" if field.name == "plaintext" else "x" for field in dataclasses.fields(cls)})]
        elif "SecretBytes" in kind:
            arguments[name] = b"given"
        elif "Iterable" in kind:
            arguments[name] = ["given"]
        elif "tuple" in kind:
            arguments[name] = ("label", "value")
        else:
            arguments[name] = {"a": "b"} if "Mapping" in kind else f"given-{name}"
    call = build(None, **arguments)
    if isinstance(call, Batch):
        (call,) = call.calls
    return call.first if isinstance(call, Listing) else call


def test_the_models_are_generated():
    specification = importlib.util.spec_from_file_location("generate", ROOT / "clients" / "python" / "generate.py")
    generate = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generate)
    assert generate.main(["--check"]) == 0


def test_each_operation_is_a_method_of_both_clients():
    methods = {name for name, value in inspect.getmembers(Client) if not name.startswith("_") and callable(value)}
    own = {"close", "from_env", "with_options"}
    assert methods - own == {snake(operation_id) for operation_id in OPERATIONS}
    assert {name for name, _ in inspect.getmembers(AsyncClient) if not name.startswith("_")} == methods - {"close"} | {"aclose"}
    assert all(getattr(Client, name).__doc__ for name in methods)


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_call_is_what_the_document_says(operation_id):
    method, path, operation = OPERATIONS[operation_id]
    call = built(operation_id)
    assert call.method == method
    given = parameters(operation)
    assert re.sub(r"\{(\w+)\}", r"given-\1", path) == call.path
    assert {name for name, place in given.items() if place == "query"} == set(call.query) | (OF_LISTS & set(given))
    assert {name for name, place in given.items() if place == "header"} - CLIENT_WIDE - {"Idempotency-Key"} == set(call.headers)
    assert ("Idempotency-Key" in given) == (call.repeat is Repeat.BY_KEY) == (call.idempotency_key is not None)
    assert set(call.headers) <= {"If-Match"}


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_body_has_the_documented_members(operation_id):
    operation = OPERATIONS[operation_id][2]
    call = built(operation_id)
    if "requestBody" not in operation:
        assert call.body is None
        return
    schema = resolved(operation["requestBody"]["content"]["application/json"]["schema"])
    if "oneOf" in schema:
        schema = resolved(schema["oneOf"][0])
    body = json.loads(call.body)
    assert set(body) == set(schema["properties"])
    if "items" in body:
        assert set(body["items"][0]) == set(resolved(schema["properties"]["items"]["items"])["properties"])


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_result_is_of_the_documented_type(operation_id):
    operation = OPERATIONS[operation_id][2]
    call = built(operation_id)
    succeeded = {status: response for status, response in operation["responses"].items() if status != "default"}
    content = next(iter(succeeded.values())).get("content", {})
    if not content:
        assert set(succeeded) == {"204"}
        assert call.returns is None
    elif "text/plain" in content:
        assert call.returns is str
    else:
        schema = content["application/json"]["schema"]
        expected = schema["$ref"].rsplit("/", 1)[1] if "$ref" in schema else "Mapping"
        assert getattr(call.returns, "__name__", "Mapping") == expected
        example = resolved(schema).get("example") or next(iter(resolved(schema).get("examples", [{}])))
        assert decode(call.returns, example) is not None


def test_only_what_may_be_repeated_is_repeated():
    repeats = {"always": Repeat.SAFE, "key": Repeat.BY_KEY, "never": Repeat.NEVER}
    assert {o: built(o).repeat for o in OPERATIONS} == {o: repeats[found["x-idempotency"]] for o, (_, _, found) in OPERATIONS.items()}
    assert {o for o in OPERATIONS if not built(o).credential} == {"getHealth", "getReadiness", "getOpenapi"}


def test_each_code_has_its_class():
    assert set(errors._CLASSES) == set(SCHEMAS["ErrorCode"]["x-extensible-enum"])
    assert errors._MEMBERS == set(SCHEMAS["Problem"]["properties"])
    base = {code for code, kind in errors._CLASSES.items() if kind is errors.ClavigerError}
    assert base == {"internal"}


def test_signatures_are_readable():
    signature = inspect.signature(Client("http://localhost", "t").wrap)
    assert list(signature.parameters) == ["key", "plaintext", "context"]
    assert Client.wrap.__doc__ == "Wrap 1 to 4096 bytes."


def test_unknown_members_and_words_are_kept():
    key = decode(Key, {**KEY, "state": "frozen", "later": {"a": [1]}, "rotation": {"state": "idle", "since": "now"}})
    assert key.state == "frozen"
    assert isinstance(key.state, KeyState)
    assert not key.state.known
    assert key.state != KeyState.ENABLED
    assert key.extra == {"later": {"a": [1]}}
    assert key.rotation.extra == {"since": "now"}
    known = decode(Key, KEY)
    assert known.state == KeyState.ENABLED
    assert known.state.known
    assert known.extra == {}
    assert Operation.GENERATE_DATA_KEY_WITHOUT_PLAINTEXT == "GenerateDataKeyWithoutPlaintext"
    assert "GenerateDataKey" in Operation.words


def test_a_null_where_a_member_is_optional_is_absent():
    assert decode(Key, {**KEY, "at_provider": None}).at_provider is None
    assert decode(Connection, SCHEMAS["ConnectionList"]["properties"]["items"]["examples"][0][0]).circuit is None


def test_words_and_members_that_python_reserves():
    assert "import_" in ConnectionCapabilities.__dataclass_fields__
    for cls in Word.__subclasses__():
        schema = SCHEMAS[cls.__name__]
        assert cls.words == set(schema.get("enum") or schema["x-extensible-enum"])
        assert not issubclass(cls, enum.Enum)


def test_a_batch_is_as_large_as_the_document_says():
    for name in ("GenerateDataKeys", "Wrap", "Unwrap", "Rewrap"):
        assert SCHEMAS[f"Batch{name}Request"]["properties"]["items"]["maxItems"] == _build.MOST_ITEMS


def test_every_annotation_resolves():
    for name in ("create_key", "batch_unwrap", "list_keys", "create_token"):
        assert typing.get_type_hints(getattr(Client, name))["return"]
    assert isinstance(built("getKey"), Call)
