#!/usr/bin/env python3
"""Holds the OpenAPI documents against three validators: python3 run.py NODE_MODULES

openapi-spec-validator knows the specification, Redocly and Spectral also what clients trip over: an example that
does not fit its schema, a reference to nothing, a component that nothing uses. Each must be silent.
"""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
DOCUMENTS = ["claviger.json", "claviger-3.0.json"]


def main(programs):
    # They would tell their makers of each run, and ask for newer releases.
    environment = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    failed = 0
    for document in DOCUMENTS:
        path = ROOT / "openapi" / document
        for program in [
            [sys.executable, "-m", "openapi_spec_validator", path],
            [programs / ".bin/redocly", "lint", "--config", HERE / "redocly.yaml", path],
            [programs / ".bin/spectral", "lint", "--fail-severity=warn", "--ruleset", HERE / "spectral.yaml", path],
        ]:
            done = subprocess.run(program, env=environment, stdin=subprocess.DEVNULL)
            failed += done.returncode != 0
    print(f"{3 * len(DOCUMENTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
