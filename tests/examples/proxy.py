"""A proxy in front of the gateway, which answers some requests itself, or keeps what the gateway answered.

    with Proxy(address) as proxy:
        proxy.instead = lambda method, path: proxy.problem(503, "circuit_open", retry_after=1) if path == "/v1/unwrap" else None
        proxy.requests      # (when it came, in seconds; method; path)
"""

import http.server
import json
import threading
import time
import urllib.error
import urllib.request

# Forward the request, and let no answer come back: the client waits until it is killed.
HOLD = "hold"


class Proxy:
    def __init__(self, target):
        self.requests = []
        # What to answer to a request (status, headers, body), or HOLD, or None to forward it.
        self.instead = lambda _method, _path: None
        # Set when an answer is held.
        self.held = threading.Event()
        self._released = threading.Event()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.requests.append((time.monotonic(), self.command, self.path))
                answer = proxy.instead(self.command, self.path)
                if answer in (None, HOLD):
                    held, answer = answer == HOLD, forward(target + self.path, self.command, self.headers, body)
                    if held:
                        proxy.held.set()
                        proxy._released.wait()
                        self.close_connection = True
                        return
                status, headers, text = answer
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(text))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def times(self, path):
        """When the requests of a path came, in seconds."""
        return [moment for moment, _, other in self.requests if other == path]

    @staticmethod
    def problem(status, code, retryable=True, retry_after=None):
        body = {"type": f"urn:claviger:error:{code}", "title": "Refused", "status": status, "detail": "The proxy refuses."}
        body |= {"code": code, "request_id": "0" * 32, "retryable": retryable}
        headers = {"Content-Type": "application/problem+json"}
        return status, headers | ({} if retry_after is None else {"Retry-After": str(retry_after)}), json.dumps(body).encode()


def forward(url, method, headers, body):
    """The gateway's answer: status, headers, body."""
    kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection", "content-length")}
    request = urllib.request.Request(url, data=body or None, headers=kept, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, passed_on(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, passed_on(error.headers), error.read()


def passed_on(headers):
    return {name: value for name, value in headers.items() if name.lower() in ("content-type", "retry-after", "claviger-audit-index", "x-request-id")}
