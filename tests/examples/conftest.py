"""Fixtures: a gateway as `claviger dev` starts it, and an example to run against it.

CLAVIGER_TEST_BINARY names the gateway's binary.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from claviger_client import Client
from pages import commands, run_commands

ROOT = pathlib.Path(__file__).resolve().parents[2]
# How long a start of the gateway, and the commands of a README, may take, in seconds.
START, LIMIT = 30, 900
# What a developer's machine says of a gateway, or of a proxy, is not for the tests.
INHERITED = {name: value for name, value in os.environ.items() if not name.startswith("CLAVIGER_") and not name.lower().endswith("_proxy")}

# Without this a SIGTERM would end the tests before their fixtures, and leave processes.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Gateway:
    """`claviger dev` on a free port. `variables` are those of the line with `export` that it prints."""

    def __init__(self, folder):
        binary = os.environ.get("CLAVIGER_TEST_BINARY")
        assert binary, "CLAVIGER_TEST_BINARY must name the gateway's binary; tests/run examples sets it"
        self.programs = folder / "bin"
        self.programs.mkdir()
        (self.programs / "claviger").symlink_to(pathlib.Path(binary).resolve())
        self.log = folder / "dev.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([self.programs / "claviger", "dev", "--port", "0"], env=INHERITED, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + START
        while not (printed := re.search(r"^  export (.*)\n", self.log.read_text(), re.MULTILINE)):
            assert self.process.poll() is None and time.monotonic() < end, f"no gateway:\n{self.log.read_text()}"
            time.sleep(0.01)
        self.variables = dict(word.split("=", 1) for word in printed[1].split())

    def client(self):
        return Client(self.variables["CLAVIGER_ADDRESS"], token_file=self.variables["CLAVIGER_TOKEN_FILE"], tenant=self.variables["CLAVIGER_TENANT"])

    def end(self):
        self.process.terminate()
        self.process.wait()


def environment(**variables):
    # The interpreter that runs this, with its packages. Not resolved: it may be a link to one without them.
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{INHERITED['PATH']}"
    return INHERITED | {"PATH": path, "PYTHONPATH": str(ROOT / "clients/python/src")} | variables


def run(command, folder, variables, input=""):
    done = subprocess.run(command, cwd=folder, env=variables, input=input, capture_output=True, text=True, timeout=LIMIT)
    return done.returncode, done.stdout + done.stderr


class Example:
    """A built example in a folder of its own, and a gateway to run it against.

    Its programs see the gateway's variables, and `claviger` is on their path.
    """

    def __init__(self, built, folder, gateway):
        self.folder, self._blocks = folder / built.folder.relative_to(built.root), built.blocks
        shutil.copytree(built.folder, self.folder, symlinks=True)
        for other in built.beside:
            (folder / other).symlink_to(built.root / other)
        own = environment(**gateway.variables)
        self.environment = own | {"PATH": f"{gateway.programs}{os.pathsep}{own['PATH']}"}
        self._secret = pathlib.Path(gateway.variables["CLAVIGER_TOKEN_FILE"]).read_text().strip()

    def readme(self):
        """Runs what the README shows after the build, and returns the output."""
        assert self._blocks, "the README shows no commands"
        output, succeeded = run_commands(self._blocks, self.folder, self.environment, LIMIT)
        assert succeeded, output
        return self._without_secrets(output)

    def run(self, *command, input="", **variables):
        """Runs a command to its end; returns its exit code and its output, the errors last."""
        code, output = run(command, self.folder, self.environment | variables, input)
        return code, self._without_secrets(output)

    def _without_secrets(self, output):
        assert self._secret not in output, "the token was printed"
        return output


@pytest.fixture
def gateway(tmp_path):
    running = Gateway(tmp_path)
    yield running
    running.end()


@pytest.fixture
def claviger(gateway):
    """The administrator of `claviger dev`."""
    with gateway.client() as client:
        yield client


class Built:
    """A copy of an example's folder, beside what it uses as in the checkout, in which the first blocks of the README were run.

    `blocks` are the other ones, and `beside` is in the root of the copy.
    """

    def __init__(self, name, build_blocks, beside, root):
        self.root, self.folder = root, root / "examples" / name
        # What is built in the checkout stays there, and what is built here does not get there.
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", f"examples/{name}", *beside]
        for path in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, root / path)
        self.beside = [path.name for path in root.iterdir() if path.name != "examples"]
        blocks = commands(self.folder / "README.md")
        self.blocks = blocks[build_blocks:]
        if build_blocks:
            output, succeeded = run_commands(blocks[:build_blocks], self.folder, environment(), LIMIT)
            assert succeeded, output

    def run(self, *command):
        """Runs a command to its end; returns its exit code and its output, the errors last."""
        return run(command, self.folder, environment())


@pytest.fixture(scope="module")
def built(request, tmp_path_factory):
    """The example that the module names as EXAMPLE, whose README begins with BUILD_BLOCKS blocks that build it, and which uses BESIDE."""
    module = request.module
    beside = getattr(module, "BESIDE", ("clients", "openapi"))
    return Built(module.EXAMPLE, getattr(module, "BUILD_BLOCKS", 0), beside, tmp_path_factory.mktemp("built"))


@pytest.fixture
def example(built, tmp_path, gateway):
    return Example(built, tmp_path, gateway)
