#!/usr/bin/env python3
"""Refuses a dependency whose licence does not go with Apache-2.0: python3 licenses.py

Reads `cargo metadata`. Each crate that is built into the gateway or its tests must state a
licence expression (SPDX) that can be met with the licences below alone.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "BlueOak-1.0.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "OpenSSL", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip


def met(expression):
    """Whether an SPDX expression holds when the allowed licences are the ones taken."""
    # Crates of old wrote A/B for A OR B.
    words = re.findall(r"[()]|[^\s()]+(?: WITH [^\s()]+)?", expression.replace("/", " OR "))

    def either():
        holds = both()
        while words and words[0] == "OR":
            words.pop(0)
            holds = both() or holds
        return holds

    def both():
        holds = one()
        while words and words[0] == "AND":
            words.pop(0)
            holds = one() and holds
        return holds

    def one():
        word = words.pop(0)
        if word != "(":
            return word in ALLOWED
        holds = either()
        words.pop(0)
        return holds

    return either() and not words


def main():
    metadata = json.loads(subprocess.run(["cargo", "metadata", "--locked", "--format-version=1", "--all-features"], check=True, capture_output=True).stdout)
    packages = [package for package in metadata["packages"] if package["source"]]
    refused = [p for p in packages if not p["license"] or not met(p["license"])]
    for package in refused:
        print(f"{package['name']} {package['version']}: {package['license'] or 'no licence stated'}")
    print(f"licences: {len(packages)} dependencies, {len(refused)} refused")
    return 1 if refused or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
