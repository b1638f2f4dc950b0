#!/usr/bin/env python3
"""Runs the commands that the documentation shows: python3 docs.py BINARY

Of README.md and each page under docs/, the blocks that begin with ```sh test are run, in
order and in one shell, which stops at the first command that fails. Each page has a gateway
and a folder of its own; `claviger` is on the path, and the CLAVIGER_* variables lead to the
gateway's administrator, acting for the tenant `acme` with its connection `embedded` and its
key `orders`. CLAVIGER_TEST_SOFTHSM_TOOL is on the path, too, and MODULE is its PKCS#11 module. `python3`
is the one that runs this program, with its packages.
A program of README.md must be one of the README of the client in its language, where
`tests/run clients` runs it.
Links between the pages must lead somewhere, and a test that a page names as `suite: test`
must exist.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from gateway import Gateway
from pages import commands, dead_links, run_commands

ROOT = pathlib.Path(__file__).resolve().parents[1]
# tests/backends/softhsm/start prints both variables.
SOFTHSM = pathlib.Path(os.environ["CLAVIGER_TEST_SOFTHSM_TOOL"])
# Not resolved: in a virtual environment it is a link to a Python without the packages.
PYTHON = pathlib.Path(sys.executable).parent
TENANT, KEY = "acme", "orders"
# The clients whose README has programs of this language.
CLIENTS = {"python": "python", "go": "go", "ts": "typescript", "rust": "rust"}
# How long one page may take, in seconds.
LIMIT = 120


def run(page, blocks, binary):
    """None, or what failed."""
    with Gateway(binary) as gateway, tempfile.TemporaryDirectory(prefix="claviger-docs-") as folder:
        gateway.with_tenant(TENANT, KEY)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAVIGER_")}
        environment |= {
            "PATH": f"{gateway.binary.parent}:{SOFTHSM.parent}:{PYTHON}:{environment['PATH']}",
            "CLAVIGER_ADDRESS": f"http://{gateway.address}",
            "CLAVIGER_TOKEN_FILE": str(gateway.token_file),
            "CLAVIGER_TENANT": TENANT,
            "CHECKOUT": str(ROOT),
            "MODULE": os.environ["CLAVIGER_TEST_SOFTHSM_MODULE"],
        }
        output, succeeded = run_commands(blocks, folder, environment, LIMIT)
        return None if succeeded else output


def missing_tests(page, sources):
    for suite, test in re.findall(r"`([a-z]+): ([a-z0-9_]+)`", page.read_text()):
        if not re.search(rf"\b{test}\b", sources):
            yield f"{suite}: {test}"


def programs(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def untested_programs():
    for language, client in CLIENTS.items():
        tested = programs(ROOT / "clients" / client / "README.md", language)
        for program in programs(ROOT / "README.md", language):
            if program not in tested:
                yield program.splitlines()[0]


def main(binary):
    tracked = subprocess.run(["git", "ls-files", "-z", "*.rs"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sources = "\n".join((ROOT / name).read_text() for name in tracked.split("\0") if name)
    pages = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
    passed, failures = 0, []
    for page in pages:
        name = page.relative_to(ROOT)
        found = [f"{name}: the link {target} leads nowhere" for target in dead_links(page)]
        found += [f"{name}: there is no test {test}" for test in missing_tests(page, sources)]
        if page == ROOT / "README.md":
            found += [f"{name}: the program that begins with `{first}` is in no client's README" for first in untested_programs()]
        if blocks := commands(page):
            wrong = run(page, blocks, binary)
            found += [f"{name}: {wrong}"] if wrong else []
            print(f"{name}: {len(blocks)} blocks")
        passed += not found
        failures += found
    for failure in failures:
        print("FAILED", failure)
    print(f"{passed} passed, {len(pages) - passed} failed")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
