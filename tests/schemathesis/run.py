#!/usr/bin/env python3
"""Holds the gateway against the document that it serves: python3 run.py BINARY

Starts a gateway of its own with a tenant, a connection and a key, so that some calls
succeed, and lets schemathesis call whatever the document allows and much that it does not.
What was done to it must not keep it from starting again after a SIGKILL.
"""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from gateway import Gateway  # noqa: E402

TENANT = "acme"


def main(binary):
    with Gateway(binary) as gateway:
        gateway.with_tenant(TENANT, "orders")
        # One worker: hypothesis parses sources in its threads, and in Python 3.11 two that do so
        # at once can end in "AST constructor recursion depth mismatch" (CPython gh-106905).
        program = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", ROOT / "schemathesis.toml"),
            *("run", f"http://{gateway.address}/openapi.json"),
            *("--checks", "all", "--max-examples", "100", "--seed", "1", "--no-color"),
            *("--header", f"Authorization: Bearer {gateway.token}", "--header", f"Claviger-Tenant: {TENANT}"),
        ]
        # In the temporary folder: what it keeps there would make one run depend on another.
        hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(ROOT / "tests" / "schemathesis")}
        found = subprocess.run(program, cwd=gateway.folder.name, env=os.environ | hooks).returncode
        gateway.kill()
        gateway.serve()
    print("1 passed, 0 failed" if found == 0 else "0 passed, 1 failed")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
