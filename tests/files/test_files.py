"""Each client and the command line open the files that the others write.

CLAVIGER_TEST_BINARY names the gateway's binary, CLAVIGER_TEST_RUST the example `files` of the Rust client, and
CLAVIGER_TEST_TYPESCRIPT the folder with the build of the TypeScript client.
"""

import itertools
import os
import pathlib
import subprocess
import sys

import pytest

from gateway import Gateway

HERE = pathlib.Path(__file__).resolve().parent
LANGUAGES = ["command line", "go", "python", "rust", "typescript"]
# A chunk has 16,384 bytes.
CONTENTS = {"empty": b"", "chunks": os.urandom(2 * 16384 + 5)}


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """The program of each language, with the arguments before `encrypt` or `decrypt`."""
    go = tmp_path_factory.mktemp("go") / "files"
    subprocess.run(["go", "build", "-o", go, "."], cwd=HERE / "go", check=True)
    return {
        "go": [go],
        "python": [sys.executable, HERE / "program.py"],
        "rust": [os.environ["CLAVIGER_TEST_RUST"]],
        "typescript": ["node", HERE / "program.mjs", os.environ["CLAVIGER_TEST_TYPESCRIPT"]],
    }


@pytest.fixture(scope="session")
def run(programs):
    """Runs the program of a language against a gateway with the key `orders`."""
    binary = os.environ["CLAVIGER_TEST_BINARY"]
    with Gateway(binary) as gateway:
        gateway.with_tenant("acme", "orders")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("CLAVIGER_")}
        variables |= {"CLAVIGER_ADDRESS": f"http://{gateway.address}", "CLAVIGER_TOKEN_FILE": str(gateway.token_file), "CLAVIGER_TENANT": "acme"}

        def call(language, command, source, target):
            if language == "command line":
                key = ["orders"] if command == "encrypt" else []
                arguments = [binary, command, *key, "--in", source, "--out", target, "--context", "table=orders"]
            else:
                arguments = [*programs[language], command, source, target]
            done = subprocess.run(arguments, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert done.returncode == 0, f"{language}: {done.stdout}{done.stderr}"

        yield call


@pytest.fixture(scope="session")
def written(run, tmp_path_factory):
    """A file of each language and each content."""
    folder = tmp_path_factory.mktemp("written")
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
        for language in LANGUAGES:
            run(language, "encrypt", folder / name, folder / f"{name} {language}")
    return folder


@pytest.mark.parametrize("writer, reader", list(itertools.product(LANGUAGES, LANGUAGES)))
def test_it_opens(run, written, tmp_path, writer, reader):
    for name, content in CONTENTS.items():
        run(reader, "decrypt", written / f"{name} {writer}", tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
