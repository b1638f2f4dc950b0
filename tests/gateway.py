"""A gateway process on loopback, for the checks that are written in Python.

    with Gateway(binary) as gateway:
        gateway.call("GET", "/v1/keys", tenant="acme")

Its folder is temporary, and the process ends with the block, also on SIGTERM.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# How long a start may take, in seconds.
START = 30

# Without this a SIGTERM would end the test before its block, and leave the process.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Gateway:
    """`claviger init` and `claviger serve` on a folder of their own.

    `variables` are set for both. `prefix` is a program that runs `claviger serve`, with its arguments;
    `patience` says how many seconds a start may take then.
    """

    def __init__(self, binary, variables=(), prefix=(), patience=START):
        self.binary = pathlib.Path(binary).resolve()
        self.prefix = prefix
        self.patience = patience
        self.folder = tempfile.TemporaryDirectory(prefix="claviger-test-")
        path = pathlib.Path(self.folder.name)
        self.token_file = path / "admin.token"
        self.data = path / "data"
        self.log = path / "serve.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLAVIGER_")}
        self.environment = inherited | {
            "CLAVIGER_SERVER__LISTEN": "127.0.0.1:0",
            "CLAVIGER_STORAGE__DATA_DIR": str(self.data),
            "CLAVIGER_STORAGE__ROOT_KEY__FILE": str(path / "root.key"),
            "CLAVIGER_TELEMETRY__LOG_FORMAT": "json",
            **dict(variables),
        }
        self.process = None
        self.address = None

    def __enter__(self):
        try:
            self.run("init", "--token-out", str(self.token_file))
            self.serve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.stop()
        self.folder.cleanup()

    def run(self, *arguments):
        """Runs the binary to its end; stops the test if it fails."""
        done = subprocess.run([self.binary, *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"claviger {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, *arguments):
        """Starts the process and waits until it serves; answers the seconds that this took."""
        begin = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([*self.prefix, self.binary, "serve", *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while self.process.poll() is None and time.monotonic() < begin + self.patience:
            for line in self.log.read_text().splitlines():
                event = json.loads(line) if line.endswith("}") else {}
                if event.get("message") == "serving":
                    self.address = event["address"]
                    return time.monotonic() - begin
            time.sleep(0.001)
        raise SystemExit(f"the gateway does not serve:\n{self.log.read_text()}")

    def stop(self):
        """SIGTERM, and waits for the end; SIGKILL if it does not come."""
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self):
        """SIGKILL; stops the test if the process had ended before."""
        if self.process.poll() is not None:
            raise SystemExit(f"the gateway ended by itself:\n{self.log.read_text()}")
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def token(self):
        return self.token_file.read_text().strip()

    def call(self, method, path, body=None, tenant=None):
        """One request as the administrator; answers the JSON body, and raises on an error status."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if tenant is not None:
            headers["Claviger-Tenant"] = tenant
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from None
        return json.loads(text) if text else None

    def with_tenant(self, name, key):
        """A tenant that can work: a connection `embedded` to the embedded provider, and one key."""
        self.call("POST", "/v1/tenants", {"name": name})
        self.call("POST", "/v1/connections", {"name": "embedded", "provider": "local", "settings": {}}, tenant=name)
        self.call("POST", "/v1/keys", {"name": key, "connection": "embedded"}, tenant=name)
