"""Fixtures: a gateway, a stub server, and both clients behind one surface.

A test that takes `connect` runs twice, with `Client` and with `AsyncClient`. CLAVIGER_TEST_BINARY names the
gateway's binary.
"""

import asyncio
import importlib.util
import inspect
import os
import pathlib

import pytest
from stub import Stub

import claviger_client

ROOT = pathlib.Path(__file__).resolve().parents[3]


def _gateway_class():
    # By its path: a module `gateway` of its folder would hide the standard library's names for all tests.
    specification = importlib.util.spec_from_file_location("claviger_test_gateway", ROOT / "tests" / "gateway.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Gateway


def start_gateway(**arguments):
    binary = os.environ.get("CLAVIGER_TEST_BINARY")
    assert binary, "CLAVIGER_TEST_BINARY must name the gateway's binary; tests/run clients sets it"
    return _gateway_class()(binary, **arguments)


@pytest.fixture(scope="session")
def gateway():
    """A gateway with the tenant `acme`, its connection `embedded` and its key `orders`."""
    with start_gateway() as running:
        running.with_tenant("acme", "orders")
        yield running


@pytest.fixture
def stub():
    with Stub() as running:
        yield running


class Blocking:
    """An `AsyncClient` with the surface of a `Client`, on an event loop of its own."""

    def __init__(self, client, loop):
        self._client, self._loop = client, loop

    def __getattr__(self, name):
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*arguments, **named):
            made = attribute(*arguments, **named)
            if inspect.isawaitable(made):
                return self._loop.run_until_complete(made)
            if inspect.isasyncgen(made):
                return self._iterate(made)
            return Blocking(made, self._loop) if isinstance(made, claviger_client.AsyncClient) else made

        return call

    def _iterate(self, made):
        while True:
            try:
                yield self._loop.run_until_complete(made.__anext__())
            except StopAsyncIteration:
                return


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """Makes a client of the kind that the test runs with, and closes it at the end."""
    clients = []
    loop = asyncio.new_event_loop() if request.param == "async" else None

    def make(*arguments, **named):
        if loop is None:
            client = claviger_client.Client(*arguments, **named)
            clients.append(client.close)
            return client
        client = claviger_client.AsyncClient(*arguments, **named)
        clients.append(lambda: loop.run_until_complete(client.aclose()))
        return Blocking(client, loop)

    yield make
    for close in clients:
        close()
    if loop is not None:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def acme(connect, gateway):
    """The platform operator, acting for the tenant `acme`."""
    return connect(f"http://{gateway.address}", token_file=gateway.token_file, tenant="acme")


@pytest.fixture
def quick(monkeypatch):
    """Pauses before retries without their minimum of a second."""
    monkeypatch.setattr(claviger_client._core, "_PAUSE_AFTER_PROBLEM", 0.01)
    monkeypatch.setattr(claviger_client._core, "_FIRST_PAUSE", 0.01)
