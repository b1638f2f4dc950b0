"""A gateway of answers that a real one does not give on demand: busy at first, or of a later release.

    with Stub() as stub:
        stub.address
        stub.times["acme"]["/v1/unwrap"]    # when each request of that tenant's client came, in seconds

| request | answer |
|---|---|
| `POST /v1/unwrap` of `clv1.busy` | 503 with `retryable` and `Retry-After: 1`, then a data key |
| `GET /v1/keys/later` | a key with members that no document has |
| `GET /v1/keys/quarantined` | a key in a state that no document has |
| `GET /v1/keys/refused` | 503 with a `code` that no document has and `retryable: false` |
| `POST /v1/batch/unwrap` | a result and an error, both with members, the error also with a code, that no document has |
"""

import collections
import http.server
import json
import threading
import time

LATER = {"added_later": {"by": ["a", "later", "release"]}}
KEY = {
    "id": "3f6a9d2c5b8e1f40a7d3c6b9e2f5a8d1",
    "name": "later",
    "tenant": "7d865e959b2466918c9863afca942d0f",
    "connection": "embedded",
    "provider": "local",
    "provider_key": "local-1",
    "spec": "aes-256",
    "state": "enabled",
    "custody": "provider",
    "allow_export": False,
    "primary_version": 1,
    "rotation": {"state": "idle"} | LATER,
    "cache": {"enabled": True, "max_age": "60s"},
    "labels": {},
    "managed_by": None,
    "created": "2026-11-23T15:04:05.000000Z",
    "updated": "2026-11-23T15:04:05.000000Z",
    "etag": '"1"',
} | LATER
UNWRAPPED = {"plaintext": "mPTmPsoNC9GPwlqsAFCgpgl/z2zsYZ0Zv3Wp4cBVq8Y=", "key": "later", "version": 1, "cached": False} | LATER


def problem(status, code, retryable):
    return {
        "type": f"urn:claviger:error:{code}",
        "title": "Refused",
        "status": status,
        "detail": "The stub refuses.",
        "code": code,
        "request_id": "01936f0e5a7c4b1e9d2f8a6b3c5d7e9f",
        "retryable": retryable,
    } | LATER


class Stub:
    def __init__(self):
        self.times = collections.defaultdict(lambda: collections.defaultdict(list))
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, answer = stub.answer(self.command, self.path, self.headers, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
                self.send_header("Content-Length", str(len(text)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, path, headers, body):
        """The status, headers and JSON body of an answer."""
        # The client sends both with every request, though each is set once.
        if not headers.get("Authorization", "").startswith("Bearer clv_") or "Claviger-Tenant" not in headers:
            return 401, {}, problem(401, "unauthenticated", False)
        times = self.times[headers["Claviger-Tenant"]][path]
        times.append(time.monotonic())
        match method, path:
            case "GET", "/v1/keys/later":
                return 200, {}, KEY
            case "GET", "/v1/keys/quarantined":
                return 200, {}, KEY | {"state": "quarantined"}
            case "GET", "/v1/keys/refused":
                return 503, {"Retry-After": "1"}, problem(503, "refused_by_a_later_release", False)
            case "POST", "/v1/batch/unwrap" if len(json.loads(body)["items"]) == 2:
                return 200, {}, {"items": [UNWRAPPED, {"error": problem(409, "refused_by_a_later_release", False)} | LATER]} | LATER
            case "POST", "/v1/unwrap" if json.loads(body)["wrapped"] == "clv1.busy":
                if len(times) == 1:
                    return 503, {"Retry-After": "1"}, problem(503, "circuit_open", True)
                return 200, {}, UNWRAPPED
        return 404, {}, problem(404, "not_found", False)
