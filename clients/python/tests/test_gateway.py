"""Against a real gateway: each group of operations, both clients."""

import asyncio
import os
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from conftest import start_gateway

from claviger_client import (
    AlreadyExistsError,
    AsyncClient,
    CiphertextRejectedError,
    ClavigerError,
    Client,
    DeadlineExceededError,
    FailedItem,
    GatewayUnreachableError,
    GenerateItem,
    InvalidEnvelopeError,
    InvalidRequestError,
    KeyUnusableError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RewrapItem,
    SecretBytes,
    UnauthenticatedError,
    UnsupportedError,
    UnwrapItem,
    WrapItem,
)
from claviger_client.errors import ConflictError
from claviger_client.models import CacheRules, ConnectionState, KeyState, Operation, PrincipalKind, Spec, TokenKind

CONTEXT = {"table": "orders"}


@pytest.fixture
def name(request):
    """A name of the test's own."""
    return f"t{abs(hash(request.node.nodeid)) % 10**12}"


def test_a_data_key_is_generated_and_unwrapped(acme):
    data_key = acme.generate_data_key("orders", context=CONTEXT)
    assert (data_key.key, data_key.version, len(data_key.plaintext)) == ("orders", 1, 32)
    assert data_key.wrapped.startswith("clv1.")
    assert data_key.meta.request_id
    assert "#" in data_key.meta.audit_index
    again = acme.unwrap(data_key.wrapped, context=CONTEXT)
    assert again.plaintext == data_key.plaintext
    assert acme.unwrap_with_key("orders", data_key.wrapped, context=CONTEXT).plaintext.expose() == data_key.plaintext.expose()
    assert len(acme.generate_data_key("orders", bytes=64).plaintext) == 64
    assert acme.generate_data_key("orders", plaintext=False).plaintext is None


def test_no_data_key_is_kept(acme, name):
    acme.create_key(name, "embedded")
    data_key = acme.generate_data_key(name)
    assert acme.generate_data_key(name).plaintext != data_key.plaintext
    # Each use has its record.
    first, second = acme.unwrap(data_key.wrapped), acme.unwrap(data_key.wrapped)
    assert first.plaintext == second.plaintext
    assert first.meta.audit_index != second.meta.audit_index
    # What was opened a moment ago is not usable any more.
    acme.disable_key(name)
    for call in (lambda: acme.unwrap(data_key.wrapped), lambda: acme.generate_data_key(name)):
        with pytest.raises(KeyUnusableError):
            call()
    (item,) = acme.batch_unwrap([UnwrapItem(wrapped=data_key.wrapped)])
    assert item.error.code == "key_disabled"


def test_the_wrong_context_is_told_by_its_class(acme):
    wrapped = acme.wrap("orders", SecretBytes(b"0123456789"), context=CONTEXT).wrapped
    with pytest.raises(CiphertextRejectedError) as raised:
        acme.unwrap(wrapped, context={"table": "invoices"})
    error = raised.value
    assert (error.code, error.status, error.retryable, error.title) == ("ciphertext_rejected", 422, False, "Ciphertext rejected")
    assert error.request_id
    assert error.audit_index
    with pytest.raises(InvalidEnvelopeError):
        acme.unwrap("clv1.AAAA")
    inspected = acme.inspect(wrapped, context=CONTEXT)
    assert inspected.key == "orders"
    assert inspected.plaintext_length == 10
    assert abs(inspected.created - datetime.now(timezone.utc)) < timedelta(minutes=5)
    assert isinstance(inspected.recipients[0].ciphertext, bytes)


def test_a_key_lives(acme, name):
    key = acme.create_key(
        name, "embedded", spec=Spec.AES_256, labels={"env": "test"}, cache=CacheRules(enabled=True, max_age=timedelta(minutes=1))
    )
    assert key.cache.max_age == timedelta(seconds=60)
    assert (key.state, key.spec, key.primary_version) == (KeyState.ENABLED, "aes-256", 1)
    wrapped = acme.generate_data_key(name).wrapped
    assert acme.rotate_key(name).primary_version == 2
    assert [version.number for version in acme.list_key_versions(name, page_size=1)] == [1, 2]
    rewrapped = acme.rewrap(name, wrapped)
    assert (rewrapped.changed, rewrapped.version) == (True, 2)
    key = acme.get_key(name)
    changed = acme.update_key(name, etag=key.etag, labels={"env": "prod"}, cache=key.cache)
    assert changed.labels == {"env": "prod"}
    with pytest.raises(PreconditionFailedError):
        acme.update_key(name, etag=key.etag, labels={})
    assert acme.disable_key(name).state == KeyState.DISABLED
    for call in (lambda: acme.unwrap(rewrapped.wrapped), lambda: acme.generate_data_key(name)):
        with pytest.raises(KeyUnusableError) as raised:
            call()
        assert raised.value.code == "key_disabled"
    disabled = acme.disable_key(name, at_provider=True)
    assert disabled.at_provider.result == "done"
    assert acme.enable_key(name, at_provider=True).state == KeyState.ENABLED
    acme.delete_key(name)
    with pytest.raises(NotFoundError):
        acme.get_key(name)
    (detached,) = [found for found in acme.list_keys(state="detached") if found.id == key.id]
    assert detached.detached_at > key.created
    back = acme.create_key(name, detached.reattach.connection, provider_key=detached.reattach.provider_key)
    assert back.id == key.id


def test_lists_are_paged_to_the_end(acme, name):
    names = [f"{name}-{number:02}" for number in range(7)]
    for made in names:
        acme.create_key(made, "embedded", labels={"test": name})
    assert [key.name for key in acme.list_keys(label=("test", name), page_size=2)] == names
    assert [key.name for key in acme.list_keys(label=("test", name))] == names
    # Nothing is fetched before it is needed.
    first = next(iter(acme.with_options(tenant="acme").list_keys(label=("test", name), page_size=1)))
    assert first.name == names[0]
    assert list(acme.list_keys(label=("test", "none of it"))) == []
    with pytest.raises(InvalidRequestError) as raised:
        list(acme.list_keys(page_size=1001))
    assert raised.value.errors[0].pointer == "query:page_size"


def test_a_batch_with_bad_items(acme, name):
    acme.create_key(name, "embedded")
    acme.disable_key(name)
    generated = acme.batch_generate_data_keys(
        [GenerateItem(key="orders", context=CONTEXT), GenerateItem(key=name), GenerateItem(key="orders", bytes=16)]
    )
    assert isinstance(generated[1], FailedItem)
    assert isinstance(generated[1].error, KeyUnusableError)
    assert generated[1].audit_index
    assert [len(item.plaintext) for item in (generated[0], generated[2])] == [32, 16]
    wrapped = acme.batch_wrap([WrapItem(key="orders", plaintext=b"plain"), WrapItem(key="orders", plaintext=SecretBytes(b"secret"))])
    opened = acme.batch_unwrap(
        [
            UnwrapItem(wrapped=generated[0].wrapped, context=CONTEXT),
            UnwrapItem(wrapped=generated[0].wrapped),
            *(UnwrapItem(wrapped=item.wrapped, key="orders") for item in wrapped),
        ]
    )
    assert opened[0].plaintext == generated[0].plaintext
    assert isinstance(opened[1].error, CiphertextRejectedError)
    assert [item.plaintext.expose() for item in opened[2:]] == [b"plain", b"secret"]
    rewrapped = acme.batch_rewrap([RewrapItem(key="orders", wrapped=generated[0].wrapped, context=CONTEXT)])
    assert rewrapped[0].key == "orders"
    with pytest.raises(InvalidRequestError):
        acme.batch_generate_data_keys([GenerateItem(key="No Name")])


def test_more_items_than_a_request_takes(acme):
    count = 1203
    wrapped = acme.batch_wrap([WrapItem(key="orders", plaintext=b"%d" % number) for number in range(count)])
    assert len(wrapped) == count
    opened = acme.batch_unwrap(UnwrapItem(wrapped=item.wrapped) for item in wrapped)
    assert [int(item.plaintext.expose()) for item in opened] == list(range(count))
    assert acme.batch_unwrap([]) == []


def test_a_connection_lives(acme, name):
    connection = acme.create_connection(name, "local", labels={"a": "b"})
    assert (connection.provider, connection.state, connection.problem) == ("local", ConnectionState.ACTIVE, None)
    assert name in [found.name for found in acme.list_connections(page_size=1)]
    acme.create_key(name, name)
    wrapped = acme.generate_data_key(name).wrapped
    assert acme.check_connection(name).reachable
    assert acme.get_connection_capabilities(name).keys[0].spec
    assert acme.sever_connection(name).state == ConnectionState.SEVERED
    with pytest.raises(KeyUnusableError) as raised:
        acme.unwrap(wrapped)
    assert raised.value.code == "connection_severed"
    assert acme.restore_connection(name).state == ConnectionState.ACTIVE
    assert acme.unwrap(wrapped).key == name
    assert acme.update_connection(name, etag="*", labels={}).labels == {}
    with pytest.raises(ConflictError) as raised:
        acme.delete_connection(name)
    assert raised.value.code == "in_use"
    with pytest.raises(InvalidRequestError) as raised:
        acme.create_connection(f"{name}-aws", "aws", {"region": "eu"})
    assert raised.value.errors


def test_principals_and_tokens(acme, connect, gateway, name):
    acme.create_principal(name, kind=PrincipalKind.WORKLOAD)
    token = acme.create_token(
        name, [Operation.GENERATE_DATA_KEY, "Unwrap"], keys=["orders"], expires_in=timedelta(days=1), kind=TokenKind.STANDING
    )
    application = connect(f"http://{gateway.address}", token.token)
    caller = application.who_am_i()
    assert (caller.id, caller.operator, set(caller.operations)) == (token.id, False, {"GenerateDataKey", "Unwrap"})
    assert abs(caller.expires - datetime.now(timezone.utc) - timedelta(days=1)) < timedelta(minutes=5)
    assert application.generate_data_key("orders").plaintext
    with pytest.raises(PermissionDeniedError):
        application.get_key("orders")
    assert [found.id for found in acme.list_tokens(name)] == [token.id]
    # The same request with the same key makes no second token, and the text is not kept.
    first = acme.create_token(name, ["Unwrap"], idempotency_key=name)
    with pytest.raises(ConflictError) as raised:
        acme.create_token(name, ["Unwrap"], idempotency_key=name)
    assert raised.value.code == "already_created"
    assert raised.value.created_id == first.id
    acme.delete_token(name, token.id)
    with pytest.raises(UnauthenticatedError):
        application.generate_data_key("orders")
    acme.delete_principal(name)
    acme.delete_principal(name)
    assert name not in [principal.name for principal in acme.list_principals()]


def test_tenants_and_the_service(connect, gateway, name):
    operator = connect(f"http://{gateway.address}", token_file=gateway.token_file, justification="Ticket 4711")
    tenant = operator.create_tenant(name)
    with pytest.raises(AlreadyExistsError):
        operator.create_tenant(name)
    assert operator.get_tenant(name).id == tenant.id
    assert operator.suspend_tenant(name).state == "suspended"
    assert operator.resume_tenant(name).state == "active"
    assert {name, "acme"} <= {found.name for found in operator.list_tenants(page_size=1)}
    other = operator.with_options(tenant=name)
    assert other.create_connection("embedded", "local").tenant == tenant.id
    assert list(other.list_keys()) == []
    assert operator.plan_declared().steps == ()
    assert operator.apply_declared().as_declared == 0
    with pytest.raises(ClavigerError):
        operator.release_declared("key", name, "no-key")
    assert operator.get_health().alive
    assert operator.get_readiness().ready
    assert "claviger" in operator.get_metrics()
    assert operator.get_openapi()["info"]["title"] == "Claviger"


def test_idempotency_by_the_callers_key(acme, name):
    first = acme.create_key(name, "embedded", idempotency_key=name)
    assert acme.create_key(name, "embedded", idempotency_key=name).id == first.id
    with pytest.raises(ConflictError) as raised:
        acme.create_key(name, "embedded", spec="rsa-3072", idempotency_key=name)
    assert raised.value.code == "idempotency_mismatch"


def test_the_deadline_is_taken_by_the_gateway(acme):
    """A gateway refuses a header that it cannot read, so both ends are tried."""
    for timeout in (0.1, 0.25, 9999, timedelta(seconds=20)):
        try:
            assert acme.with_options(timeout=timeout).get_key("orders").name == "orders"
        except (DeadlineExceededError, GatewayUnreachableError):
            assert timeout in (0.1, 0.25), "a machine that is busy"


def test_what_is_not_built_is_said(acme):
    with pytest.raises((UnsupportedError, InvalidRequestError)):
        acme.create_connection("pkcs11", "pkcs11", {})


def test_the_clients_environment(gateway, monkeypatch):
    for variable in [variable for variable in os.environ if variable.startswith("CLAVIGER_")]:
        monkeypatch.delenv(variable)
    with pytest.raises(ValueError, match="CLAVIGER_ADDRESS"):
        Client.from_env()
    monkeypatch.setenv("CLAVIGER_ADDRESS", f"http://{gateway.address}")
    with pytest.raises(ValueError, match="CLAVIGER_TOKEN_FILE"):
        Client.from_env()
    monkeypatch.setenv("CLAVIGER_TOKEN", gateway.token)
    with Client.from_env() as claviger:
        assert claviger.who_am_i().operator
    # As on the command line, the file goes before the text, and an argument before both.
    monkeypatch.setenv("CLAVIGER_TOKEN", "other")
    monkeypatch.setenv("CLAVIGER_TOKEN_FILE", "/no/such/file")
    with Client.from_env(token=gateway.token) as claviger:
        assert claviger.who_am_i().operator
    monkeypatch.setenv("CLAVIGER_TOKEN_FILE", str(gateway.token_file))
    monkeypatch.setenv("CLAVIGER_TENANT", "acme")
    # No proxy of the environment sees a key.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Client.from_env(timeout=5) as claviger:
        assert claviger.get_key("orders").name == "orders"
        assert "127.0.0.1" in repr(claviger)


def test_views_share_the_connections(gateway):
    with Client(f"http://{gateway.address}", token_file=gateway.token_file) as claviger:
        with claviger.with_options(tenant="acme", timeout=timedelta(seconds=3), retries=0) as acme:
            assert acme.get_key("orders").name == "orders"
        assert claviger.with_options(tenant="acme").get_key("orders").name == "orders"
        assert acme.with_options(tenant=None)._options.headers.get("Claviger-Tenant") is None


def test_threads_share_a_client(gateway):
    found = []
    with Client(f"http://{gateway.address}", token_file=gateway.token_file, tenant="acme") as claviger:

        def work():
            for _ in range(10):
                found.append(claviger.unwrap(claviger.generate_data_key("orders").wrapped).key)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["orders"] * 40


def test_coroutines_share_a_client(gateway):
    async def program():
        async with AsyncClient(f"http://{gateway.address}", token_file=gateway.token_file, tenant="acme") as claviger:
            wrapped = (await claviger.generate_data_key("orders")).wrapped
            found = await asyncio.gather(*(claviger.unwrap(wrapped) for _ in range(40)))
            assert {unwrapped.key for unwrapped in found} == {"orders"}
            # What is cancelled in mid-flight leaves the client and its connections usable.
            tasks = [asyncio.create_task(claviger.unwrap(wrapped)) for _ in range(20)]
            for number, task in enumerate(tasks):
                await asyncio.sleep(0.001 * (number % 3))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return await claviger.unwrap(wrapped)

    assert asyncio.run(program()).key == "orders"


@pytest.mark.usefixtures("quick")
def test_a_gateway_that_is_restarted_in_mid_flight(connect):
    with start_gateway() as gateway:
        gateway.with_tenant("acme", "orders")
        # The same port again after the restart.
        gateway.environment["CLAVIGER_SERVER__LISTEN"] = gateway.address
        client = connect(f"http://{gateway.address}", token_file=gateway.token_file, tenant="acme", retries=1000, timeout=120)
        wrapped = client.generate_data_key("orders").wrapped
        restarted = threading.Event()

        def restart():
            gateway.kill()
            time.sleep(0.2)
            gateway.serve()
            restarted.set()

        thread = threading.Thread(target=restart)
        thread.start()
        calls = 0
        try:
            while not restarted.is_set() or calls < 3:
                assert client.unwrap(wrapped).key == "orders"
                client.create_principal(f"p{calls}-{time.monotonic_ns()}")
                calls += 1
        finally:
            thread.join()
        assert len(list(client.list_principals())) == calls
