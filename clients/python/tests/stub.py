"""A server that answers what a test says, byte by byte."""

import json
import socket
import threading


class Request:
    def __init__(self, head, body):
        line, *lines = head.decode().split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines if text)}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def token(self):
        return self.headers["authorization"].removeprefix("Bearer ")


class Stub:
    """Answers each request with the next of `answers`, and repeats the last one.

    An answer is bytes, or a function from the request to bytes or to an iterator of parts; None closes the
    connection without a byte. The connection is closed after each answer.
    """

    def __init__(self, tls=None):
        self.tls = tls
        self.answers = []
        self.requests = []
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = []

    @property
    def address(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self):
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_):
        # Closing alone would not wake the thread up.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(timeout=10)

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        try:
            connection.settimeout(10)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                request = self._read(connection)
                if request is None:
                    return
                with self._lock:
                    self.requests.append(request)
                    answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                answer = answer(request) if callable(answer) else answer
                for part in [] if answer is None else [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(part)
        except OSError:
            connection.close()

    @staticmethod
    def _read(connection):
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
            if received[:1] == b"\x16":
                # TLS, without being asked for: answered as web servers do.
                connection.sendall(answer(400, b"plain HTTP only", kind="text/plain"))
                return None
        head, _, body = received.partition(b"\r\n\r\n")
        request = Request(head, b"")
        while len(body) < int(request.headers.get("content-length", 0)):
            body += connection.recv(65536)
        request.body = body
        return request


def answer(status=200, body=None, kind="application/json", headers=(), length=None):
    """A response; `length` is another Content-Length than the true one."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} x",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content) if length is None else length}",
        "Connection: close",
    ]
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def problem(code, status, retryable=False, headers=(), **members):
    """A problem document."""
    document = {"type": f"urn:claviger:error:{code}", "title": "Title", "status": status, "detail": "Detail.", "code": code}
    document |= {"request_id": "0193", "retryable": retryable, **members}
    return answer(status, document, kind="application/problem+json", headers=headers)


KEY = {
    "allow_export": False, "cache": {"max_age": "60s"}, "connection": "embedded", "created": "2026-11-23T15:04:05.000001Z",
    "custody": "provider", "etag": '"3"', "id": "3f6a9d2c5b8e1f40a7d3c6b9e2f5a8d1", "labels": {"env": "prod"}, "managed_by": None,
    "name": "orders", "primary_version": 2, "provider": "local", "provider_key": "x", "rotation": {"state": "idle"}, "spec": "aes-256",
    "state": "enabled", "tenant": "7d865e959b2466918c9863afca942d0f", "updated": "2026-11-23T15:04:05Z",
}  # fmt: skip
UNWRAPPED = {"plaintext": "c2VjcmV0LWNvbnRlbnQ=", "key": "orders", "version": 1, "cached": False}
SECRET = b"secret-content"
TOKEN = "clv_" + "a" * 12 + "_" + "b" * 49
OTHER_TOKEN = "clv_" + "c" * 12 + "_" + "d" * 49
