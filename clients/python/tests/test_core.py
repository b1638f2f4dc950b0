"""Retries and deadlines, without a network: a test plays the part of the client, with a clock of its own."""

import json
import logging
from dataclasses import replace

import pytest
from stub import KEY, OTHER_TOKEN, TOKEN

from claviger_client import (
    Client,
    ClavigerError,
    ConflictError,
    ConnectionLostError,
    DeadlineExceededError,
    GatewayUnreachableError,
    RateLimitedError,
    SecretStr,
    TokenError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedResponseError,
)
from claviger_client._calls import GetToken, Response, Send, Sleep
from claviger_client._core import Options, carry_out

GET = Client.get_key(None, "orders")
CREATE = Client.create_key(None, "orders", "embedded")
PATCH = Client.update_key(None, "orders", etag="*", labels={})
DISABLE = Client.disable_key(None, "orders")
SUCCESS = Response(200, {"x-request-id": "0193", "claviger-audit-index": "log#1"}, json.dumps(KEY).encode())


def problem(status, code, retryable, retry_after=None):
    body = {"code": code, "detail": "D.", "title": "T", "status": status, "request_id": "r", "retryable": retryable}
    return Response(status, {"retry-after": retry_after} if retry_after else {}, json.dumps(body).encode())


def lost():
    return ConnectionLostError("Lost.", code="connection_lost", retryable=True, maybe_executed=True)


def refused():
    return GatewayUnreachableError("Refused.", code="gateway_unreachable", retryable=True)


LIMITED = problem(429, "rate_limited", True)
UNAUTHENTICATED = problem(401, "unauthenticated", False)


class Run:
    """Carries a call out. `answers` are the outcomes of requests, the last one again and again."""

    def __init__(
        self,
        call,
        answers,
        *,
        tokens=(TOKEN,),
        changes=True,
        timeout=30.0,
        retries=4,
        jitter=lambda longest: longest,
        takes=0.0,
        token_takes=0.0,
    ):
        self.now = 100.0
        self.requests, self.sleeps, self.jitters = [], [], []
        self.result = self.error = None

        def measured(longest):
            self.jitters.append(longest)
            return jitter(longest)

        source = type("Source", (), {"changes": changes})()
        options = Options("http://gateway", source, {"Claviger-Tenant": "acme"}, timeout, retries, lambda: self.now, measured)
        steps = carry_out(call, options)
        outcome = None
        asked = 0
        try:
            while True:
                step = steps.send(outcome)
                if isinstance(step, Sleep):
                    self.sleeps.append(step.seconds)
                    self.now += step.seconds
                    outcome = None
                elif isinstance(step, GetToken):
                    self.now += token_takes
                    token = tokens[min(asked, len(tokens) - 1)]
                    outcome = token if isinstance(token, ClavigerError) else SecretStr(token)
                    asked += 1
                else:
                    assert isinstance(step, Send)
                    self.requests.append(step.request)
                    self.now += takes
                    outcome = answers[min(len(self.requests), len(answers)) - 1]
        except StopIteration as end:
            self.result = end.value
        except ClavigerError as error:
            self.error = error


def test_a_success_has_its_request_and_record():
    run = Run(GET, [SUCCESS])
    assert run.result.name == "orders"
    assert run.result.meta.request_id == "0193"
    assert run.result.meta.audit_index == "log#1"
    assert run.requests[0].url == "http://gateway/v1/keys/orders"
    assert run.requests[0].headers["Claviger-Tenant"] == "acme"
    assert "Idempotency-Key" not in run.requests[0].headers


def test_what_is_retryable_is_retried_with_growing_jitter():
    run = Run(GET, [LIMITED])
    assert isinstance(run.error, RateLimitedError)
    assert len(run.requests) == 5
    assert run.jitters[:4] == [0.25, 0.5, 1.0, 2.0]
    # The documented second, and the jitter on top.
    assert run.sleeps == [1.25, 1.5, 2.0, 3.0]
    assert len(Run(GET, [LIMITED], retries=0).requests) == 1


def test_pauses_stop_growing():
    run = Run(GET, [refused()], retries=1500, timeout=9999.0, jitter=lambda longest: 0.0)
    assert len(run.requests) == 1501
    assert max(run.jitters) == 8.0


def test_retry_after_is_the_least_pause():
    run = Run(GET, [problem(503, "not_ready", True, "7"), SUCCESS], jitter=lambda longest: longest / 2)
    assert run.result
    assert run.sleeps == [7.125]
    longer = Run(GET, [problem(503, "not_ready", True, "31")])
    assert isinstance(longer.error, UnavailableError)
    assert longer.sleeps == []
    assert longer.error.retry_after == 31
    for nonsense in ("soon", "-1", "1.5", "²", "9" * 30):
        assert Run(GET, [problem(503, "not_ready", True, nonsense), SUCCESS]).sleeps == [1.25]


def test_what_is_not_retryable_is_not_retried():
    run = Run(GET, [problem(409, "key_disabled", False)])
    assert len(run.requests) == 1
    unknown = Run(GET, [problem(418, "later_code", False)])
    assert type(unknown.error) is ClavigerError
    assert (unknown.error.code, unknown.error.status, len(unknown.requests)) == ("later_code", 418, 1)
    # An unknown code goes by `retryable`, too.
    assert Run(GET, [problem(503, "later_code", True), SUCCESS]).result


def test_the_deadline_is_sent_and_shrinks():
    run = Run(GET, [LIMITED], timeout=10.0, takes=2.0)
    sent = [int(request.headers["Claviger-Timeout"].removesuffix("ms")) for request in run.requests]
    # Each attempt takes 2 s, and the pauses 1.25 s and 1.5 s.
    assert sent == [9750, 6500, 3000]
    assert [request.seconds for request in run.requests] == [10.0, 6.75, 3.25]
    assert isinstance(run.error, RateLimitedError)
    assert run.now <= 110.0


def test_no_time_is_slept_away():
    run = Run(GET, [LIMITED], timeout=1.0)
    assert run.sleeps == []
    assert isinstance(run.error, RateLimitedError)
    short = Run(GET, [SUCCESS], timeout=0.1)
    assert short.requests[0].headers["Claviger-Timeout"] == "100ms"


def test_a_deadline_that_passed_is_said():
    run = Run(GET, [SUCCESS], timeout=0.2, token_takes=0.3)
    assert isinstance(run.error, DeadlineExceededError)
    assert not run.error.maybe_executed
    away = TokenError("Missing.", code="token_unusable", retryable=True)
    run = Run(GET, [SUCCESS], tokens=[away], timeout=0.2)
    assert run.error is away
    assert len(run.sleeps) < 5
    assert run.requests == []


def test_the_idempotency_key_is_kept_over_retries():
    run = Run(CREATE, [refused(), lost(), problem(409, "in_progress", True), SUCCESS])
    keys = {request.headers["Idempotency-Key"] for request in run.requests}
    assert run.result
    assert len(run.requests) == 4
    assert len(keys) == 1
    assert len(keys.pop()) == 36
    another = Run(CREATE, [SUCCESS])
    assert another.requests[0].headers["Idempotency-Key"] not in {r.headers["Idempotency-Key"] for r in run.requests}
    given = Run(replace(CREATE, idempotency_key="mine"), [lost(), SUCCESS])
    assert [request.headers["Idempotency-Key"] for request in given.requests] == ["mine", "mine"]


@pytest.mark.parametrize("call", [GET, CREATE, DISABLE, Client.generate_data_key(None, "k"), Client.delete_token(None, "p", "t")])
def test_a_lost_response_is_repeated_where_that_is_safe(call):
    run = Run(call, [lost(), refused(), problem(409, "in_use", False)])
    assert isinstance(run.error, ConflictError)
    assert len(run.requests) == 3
    # What the first attempt may have done stays done.
    assert run.error.maybe_executed
    # There is no documented second for these.
    assert run.sleeps == [0.25, 0.5]


@pytest.mark.parametrize("call", [PATCH, Client.delete_key(None, "k"), Client.check_connection(None, "c"), Client.apply_declared(None)])
def test_a_lost_response_is_not_repeated_where_the_caller_must_look(call):
    run = Run(call, [lost()])
    assert len(run.requests) == 1
    assert run.error.maybe_executed
    # Nothing was sent, or the gateway itself says that the request may be repeated.
    assert len(Run(call, [refused()]).requests) == 5
    assert len(Run(call, [LIMITED]).requests) == 5
    late = DeadlineExceededError("Late.", code="deadline_exceeded", retryable=True, maybe_executed=True)
    assert len(Run(call, [late]).requests) == 1
    # The gateway's word is still good when an attempt in between was not sent.
    assert len(Run(call, [problem(504, "deadline_exceeded", True), refused(), LIMITED]).requests) == 5


def test_a_proxy_without_its_gateway_is_like_a_lost_response():
    page = Response(502, {"content-type": "text/html; charset=utf-8"}, b"<html>")
    run = Run(GET, [page, SUCCESS])
    assert run.result
    assert len(Run(PATCH, [page]).requests) == 1
    error = Run(GET, [page]).error
    assert isinstance(error, UnexpectedResponseError)
    assert "text/html" in error.detail
    # JSON of a proxy is no problem document either.
    for body in (b'{"error": "no upstream"}', b'{"code": ""}', b'{"code": 502}', b"[]"):
        assert isinstance(Run(GET, [Response(502, {"content-type": "application/json"}, body)]).error, UnexpectedResponseError)
    assert len(Run(GET, [Response(404, {"content-type": "text/html"}, b"<html>")]).requests) == 1


def test_a_replaced_token_is_used_at_once():
    run = Run(GET, [UNAUTHENTICATED, SUCCESS], tokens=[TOKEN, OTHER_TOKEN])
    assert run.result
    assert [request.token.expose() for request in run.requests] == [TOKEN, OTHER_TOKEN]
    assert run.sleeps == []


def test_a_rejected_token_is_not_sent_twice():
    run = Run(GET, [UNAUTHENTICATED])
    assert isinstance(run.error, UnauthenticatedError)
    assert len(run.requests) == 1
    both = Run(GET, [UNAUTHENTICATED], tokens=[TOKEN, OTHER_TOKEN, "third"])
    assert isinstance(both.error, UnauthenticatedError)
    assert len(both.requests) == 2
    assert len(Run(GET, [UNAUTHENTICATED], tokens=[TOKEN, OTHER_TOKEN], changes=False).requests) == 1


def test_a_token_file_that_is_being_replaced_is_retried():
    away = TokenError("Missing.", code="token_unusable", retryable=True)
    run = Run(GET, [SUCCESS], tokens=[away, away, TOKEN])
    assert run.result
    assert run.sleeps == [0.05, 0.05]
    gone = Run(GET, [SUCCESS], tokens=[away])
    assert gone.error is away
    assert len(gone.sleeps) == 10
    wrong = Run(GET, [SUCCESS], tokens=[TokenError("Wrong.", code="token_unusable")])
    assert wrong.sleeps == []
    # It does not hide that an attempt before it may have been carried out.
    again = Run(CREATE, [lost()], tokens=[TOKEN, TokenError("Wrong.", code="token_unusable")])
    assert (again.error.code, again.error.maybe_executed, len(again.requests)) == ("token_unusable", True, 1)


def test_a_readiness_that_is_not_ready():
    call = Client.get_readiness(None)
    parts = [{"name": "log", "ready": False, "state": "full"}]
    run = Run(call, [Response(503, {}, json.dumps({"ready": False, "parts": parts}).encode())])
    assert run.result.parts[0].state == "full"
    assert run.requests[0].token is None
    assert isinstance(Run(call, [problem(503, "not_ready", False)]).error, UnavailableError)


def test_a_retry_is_logged(caplog):
    caplog.set_level(logging.DEBUG, "claviger_client")
    Run(GET, [LIMITED, SUCCESS])
    assert caplog.messages == ["GET /v1/keys/orders: rate_limited; again in 1.25 s"]


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ü", "x" * 256])
def test_an_idempotency_key_that_cannot_be_sent(key):
    with pytest.raises(ValueError, match="idempotency key"):
        Client.create_key(None, "orders", "embedded", idempotency_key=key)
    with pytest.raises(ValueError, match="etag"):
        Client.update_key(None, "orders", etag="a\r\nb")


def test_a_body_that_is_not_the_documented_one_is_refused():
    for body in (b"", b"[]", b"null", b'{"name": 1}', b"\xff", b"[" * 100_000, b'"text"'):
        run = Run(GET, [Response(200, {"content-type": "text/html"}, body)])
        assert isinstance(run.error, UnexpectedResponseError), body
        assert len(run.requests) == 1
    # 200 of a proxy's page is not the success of a deletion.
    run = Run(Client.delete_token(None, "p", "t"), [Response(200, {"content-type": "text/html"}, b"<html>")])
    assert isinstance(run.error, UnexpectedResponseError)
    assert Run(Client.delete_token(None, "p", "t"), [Response(204, {}, b"")]).error is None
    # Nor is it the metrics.
    metrics = Client.get_metrics(None)
    for kind, body in (("text/html", b"<html>"), ("application/json", b'"text"'), ("", b"a 1")):
        assert isinstance(Run(metrics, [Response(200, {"content-type": kind}, body)]).error, UnexpectedResponseError)
    assert Run(metrics, [Response(200, {"content-type": "Text/Plain; version=0.0.4"}, b"a 1")]).result == "a 1"
    redirect = Run(GET, [Response(301, {"location": "https://elsewhere"}, b"")]).error
    assert "Redirects" in redirect.what_to_do
