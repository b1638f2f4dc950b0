"""What comes in between: each is a typed error that says what to do."""

import pickle
import ssl
import subprocess
import threading
import time

import pytest
from conftest import start_gateway
from stub import KEY, TOKEN, UNWRAPPED, Stub, answer, problem

from claviger_client import (
    Client,
    ClavigerError,
    ConnectionLostError,
    DeadlineExceededError,
    GatewayUnreachableError,
    InvalidRequestError,
    KeyUnusableError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    TransportError,
    TruncatedResponseError,
    UnexpectedResponseError,
    UntrustedCertificateError,
    _transport,
)
from claviger_client.errors import Place

PAGE = answer(502, b"<html><h1>502 Bad Gateway</h1></html>", kind="text/html; charset=utf-8")


@pytest.mark.usefixtures("quick")
def test_a_truncated_answer(connect, stub):
    cut = answer(200, UNWRAPPED, length=4000)
    stub.answers = [cut, answer(200, UNWRAPPED)]
    client = connect(stub.address, TOKEN)
    assert client.unwrap("clv1.x").plaintext.expose() == b"secret-content"
    assert len(stub.requests) == 2
    stub.answers = [cut]
    with pytest.raises(TruncatedResponseError) as raised:
        client.with_options(retries=1).unwrap("clv1.x")
    error = raised.value
    assert (error.code, error.status, error.retryable, error.maybe_executed) == ("response_truncated", None, True, True)
    assert error.what_to_do
    assert len(stub.requests) == 4
    # A change is not sent again.
    with pytest.raises(TruncatedResponseError):
        client.delete_key("orders")
    assert len(stub.requests) == 5


@pytest.mark.parametrize("rest", [b'5\r\n{"pla', b"zz\r\n"])
def test_a_chunked_answer_that_ends_too_early_or_is_nonsense(connect, stub, rest):
    stub.answers = [b"HTTP/1.1 200 x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + rest]
    with pytest.raises(TruncatedResponseError) as raised:
        connect(stub.address, TOKEN, retries=0).unwrap("clv1.x")
    assert raised.value.what_to_do
    assert raised.value.maybe_executed


@pytest.mark.usefixtures("quick")
def test_json_that_ends_too_early(connect, stub):
    stub.answers = [answer(200, b'{"plaintext": "c2Vj'), answer(200, UNWRAPPED)]
    assert connect(stub.address, TOKEN).unwrap("clv1.x").key == "orders"


@pytest.mark.usefixtures("quick")
def test_an_html_page_of_a_proxy(connect, stub):
    stub.answers = [PAGE]
    client = connect(stub.address, TOKEN, retries=1)
    with pytest.raises(UnexpectedResponseError) as raised:
        client.get_key("orders")
    error = raised.value
    assert (error.status, error.code, error.retryable) == (502, "unexpected_response", True)
    assert "status 502, text/html" in error.detail
    assert "/readyz" in error.what_to_do
    assert len(stub.requests) == 2
    stub.answers = [answer(200, b"<html>Sign in</html>", kind="text/html")]
    with pytest.raises(UnexpectedResponseError, match="a proxy or a load balancer answered"):
        client.get_key("orders")
    stub.answers = [answer(414, None)]
    with pytest.raises(UnexpectedResponseError, match="status 414"):
        client.get_key("orders")
    stub.answers = [answer(307, None, headers={"Location": "http://127.0.0.1:1/"})]
    with pytest.raises(UnexpectedResponseError, match="Redirects are not followed"):
        client.get_key("orders")
    assert len(stub.requests) == 5


def test_a_server_that_is_none(connect, stub):
    stub.answers = [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"]
    with pytest.raises(UnexpectedResponseError, match="does not speak HTTP"):
        connect(stub.address, TOKEN).get_key("orders")
    with pytest.raises(GatewayUnreachableError, match="right scheme") as raised:
        connect(stub.address.replace("http:", "https:"), TOKEN).get_key("orders")
    assert not raised.value.retryable


def test_a_response_without_end(connect, stub, monkeypatch):
    monkeypatch.setattr(_transport, "MAX_RESPONSE", 1 << 20)
    stub.answers = [answer(200, b" " * (2 << 20))]
    with pytest.raises(UnexpectedResponseError, match="larger than any"):
        connect(stub.address, TOKEN).get_key("orders")
    assert len(stub.requests) == 1


@pytest.mark.usefixtures("quick")
def test_a_refused_connection(connect):
    with Stub() as gone:
        address = gone.address
    with pytest.raises(GatewayUnreachableError) as raised:
        connect(address, TOKEN, retries=2).get_key("orders")
    error = raised.value
    assert "connection refused" in error.detail
    assert (error.status, error.retryable, error.maybe_executed) == (None, True, False)
    assert "gateway runs" in error.what_to_do
    # Nothing of it can be decided by whoever answers, so it is quick.
    with pytest.raises(GatewayUnreachableError, match="No connection to no-such-host.invalid"):
        connect("https://no-such-host.invalid", TOKEN, retries=0).get_key("orders")


@pytest.mark.usefixtures("quick")
def test_a_connection_that_ends_without_an_answer(connect, stub):
    stub.answers = [None, answer(201, KEY)]
    client = connect(stub.address, TOKEN)
    assert client.create_key("orders", "embedded").name == "orders"
    first, second = stub.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    stub.answers = [None]
    with pytest.raises(ConnectionLostError) as raised:
        client.update_key("orders", etag="*", labels={"a": "b"})
    assert raised.value.maybe_executed
    assert "Repeat the call if that is safe" in raised.value.what_to_do
    assert len(stub.requests) == 3


def test_a_gateway_that_does_not_answer(connect, stub):
    released = threading.Event()

    def never(request):
        released.wait(60)

    stub.answers = [never]
    client = connect(stub.address, TOKEN, timeout=0.3)
    begin = time.monotonic()
    try:
        with pytest.raises(DeadlineExceededError) as raised:
            client.get_key("orders")
    finally:
        released.set()
    assert 0.25 < time.monotonic() - begin < 30
    assert raised.value.maybe_executed
    assert raised.value.request_id is None
    assert "Allow more time" in raised.value.what_to_do
    assert stub.requests[0].headers["claviger-timeout"] in {f"{ms}ms" for ms in range(100, 271)}


def test_a_response_that_trickles_in(connect, stub):
    def trickle(request):
        yield answer(200, None, length=100_000)
        for _ in range(200):
            time.sleep(0.05)
            yield b" "

    stub.answers = [trickle]
    with pytest.raises(DeadlineExceededError):
        connect(stub.address, TOKEN, timeout=0.3).get_key("orders")
    assert len(stub.requests) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=IP:127.0.0.1"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"]
    made += ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run(made, check=True, capture_output=True)
    return folder


def test_a_certificate_that_is_not_trusted(connect, certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    with Stub(tls) as stub:
        stub.answers = [answer(200, KEY)]
        with pytest.raises(UntrustedCertificateError) as raised:
            connect(stub.address, TOKEN).get_key("orders")
        error = raised.value
        assert "self-signed certificate" in error.detail
        assert "ca=" in error.what_to_do
        assert not error.retryable
        assert connect(stub.address, TOKEN, ca=certificate / "tls.crt").get_key("orders").name == "orders"
        context = ssl.create_default_context(cafile=certificate / "tls.crt")
        assert connect(stub.address, TOKEN, ca=context).get_key("orders").name == "orders"
        with pytest.raises(UntrustedCertificateError, match="localhost"):
            connect(f"https://localhost:{stub.port}", TOKEN, ca=certificate / "tls.crt").get_key("orders")
        assert len(stub.requests) == 2


@pytest.fixture(scope="module")
def tls_gateway(certificate):
    variables = {
        "CLAVIGER_SERVER__TLS__CERTIFICATE": str(certificate / "tls.crt"),
        "CLAVIGER_SERVER__TLS__KEY": str(certificate / "tls.key"),
    }
    with start_gateway(variables=variables) as gateway:
        yield gateway


def test_a_gateway_with_tls(connect, certificate, tls_gateway):
    client = connect(f"https://{tls_gateway.address}", token_file=tls_gateway.token_file, ca=str(certificate / "tls.crt"))
    assert client.who_am_i().operator
    with pytest.raises(UntrustedCertificateError):
        connect(f"https://{tls_gateway.address}", token_file=tls_gateway.token_file).who_am_i()
    with pytest.raises(TransportError) as raised:
        connect(f"http://{tls_gateway.address}", token_file=tls_gateway.token_file, retries=0).who_am_i()
    assert raised.value.what_to_do


@pytest.mark.usefixtures("quick")
def test_problems_of_later_gateways(connect, stub):
    client = connect(stub.address, TOKEN, retries=1)
    stub.answers = [problem("moon_phase", 418, moon="full", what_to_do="Wait.", errors=[{"pointer": "/a", "expected": "b"}])]
    with pytest.raises(ClavigerError) as raised:
        client.get_key("orders")
    error = raised.value
    assert type(error) is ClavigerError
    assert (error.code, error.status, error.request_id, error.title) == ("moon_phase", 418, "0193", "Title")
    assert error.extra == {"moon": "full"}
    assert error.errors == (Place("/a", "b"),)
    assert str(error) == "Detail. [moon_phase] /a: expected b. Wait. (request 0193)"
    stub.answers = [problem("moon_phase", 503, retryable=True)]
    with pytest.raises(ClavigerError):
        client.get_key("orders")
    assert len(stub.requests) == 3
    stub.answers = [answer(200, {**KEY, "state": "eclipsed", "moon": "full"})]
    key = client.get_key("orders")
    assert (key.state, key.state.known, key.extra) == ("eclipsed", False, {"moon": "full"})
    # Members of the wrong kind do not hide the error.
    stub.answers = [problem("not_found", 404, detail=5, errors="x", provider=[])]
    with pytest.raises(NotFoundError):
        client.get_key("orders")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("key_disabled", 409, KeyUnusableError),
        ("rate_limited", 429, RateLimitedError),
        ("circuit_open", 503, ProviderUnavailableError),
        ("invalid_envelope", 400, InvalidRequestError),
    ],
)
def test_an_error_survives_a_pickle(connect, stub, code, status, kind):
    stub.answers = [problem(code, status, what_to_do="Do.", later=1)]
    with pytest.raises(kind) as raised:
        connect(stub.address, TOKEN).get_key("orders")
    copy = pickle.loads(pickle.dumps(raised.value))
    assert type(copy) is type(raised.value)
    assert vars(copy) == vars(raised.value)
    assert str(copy) == str(raised.value)


def test_retry_after_is_waited_for(connect, stub):
    stub.answers = [problem("rate_limited", 429, retryable=True, headers={"Retry-After": "1"}), answer(200, KEY)]
    begin = time.monotonic()
    assert connect(stub.address, TOKEN).get_key("orders").name == "orders"
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "ftp://localhost",
        "http://",
        "http://gateway.example",
        "https://u:p@gateway",
        "https://gateway?x",
        "https://gateway:99999",
    ],
)
def test_addresses_that_are_refused(address):
    with pytest.raises(ValueError):
        Client(address, TOKEN)


def test_arguments_that_are_refused(connect, stub):
    assert Client("http://[::1]:8420/prefix/", TOKEN)._address == "http://[::1]:8420/prefix"
    Client("http://gateway.example", TOKEN, allow_plain_http=True).close()
    for wrong in (
        {"timeout": 0},
        {"timeout": 1e9},
        {"retries": -1},
        {"tenant": "a\nb"},
        {"justification": "x" * 257},
        {"justification": "ü"},
    ):
        with pytest.raises(ValueError):
            Client("http://localhost", TOKEN, **wrong)
    for file in ("/no/such/file", __file__):
        with pytest.raises(ValueError, match="PEM certificates"):
            Client("https://localhost", TOKEN, ca=file)
    client = connect(stub.address, TOKEN)
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="dots"):
            client.get_key(name)
    stub.answers = [problem("not_found", 404)]
    with pytest.raises(NotFoundError):
        client.get_key("a/../b?c#d%")
    assert stub.requests[0].target == "/v1/keys/a%2F..%2Fb%3Fc%23d%25"
