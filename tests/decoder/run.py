#!/usr/bin/env python3
"""Holds the Python decoder against every vector: opens the good, refuses the bad. The same for encrypted files.

    pip install -r tests/decoder/requirements.txt
    python3 tests/decoder/run.py

Prints `N passed, M failed`; exits 0 only if none failed and both folders had vectors.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import check_files
import claviger_decode as decode

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"


def outcome(vector):
    """What the decoder makes of a vector, in the vector's own members."""
    try:
        envelope = decode.parse(vector["blob"])
        ctx = envelope.ctx(vector["context"])
        status = envelope.seal_status([bytes.fromhex(key) for key in vector["seal_keys"]])
        k = bytes.fromhex(vector["k"])
        if "kek" in vector:
            for recipient in envelope.recipients:
                if recipient.usable and recipient.algorithm == 6:
                    opened = decode.xaes_open(bytes.fromhex(vector["kek"]), recipient.ciphertext, decode.ctx_bytes(ctx))
                    if opened != k:
                        return {"error": "the KEK gives another K"}
        plaintext = envelope.open(k, ctx)
    except decode.Refused as refused:
        return {"error": refused.code}
    return {"plaintext": plaintext.hex(), "seal": status, "usable": [r.usable for r in envelope.recipients]}


def check_vectors(folder, members):
    files = sorted((VECTORS / folder).glob("*.json"))
    if not files:
        yield f"{folder}: no vectors"
    for file in files:
        vector = json.loads(file.read_text())
        expected = {member: vector[member] for member in members}
        try:
            found = outcome(vector)
        except Exception as error:  # a decoder that stops on input has failed on it
            found = {"error": f"{type(error).__name__}"}
        yield None if found == expected else f"{folder}/{file.name}: expected {expected}, found {found}"


def check_xaes():
    """The two vectors of the C2SP specification."""
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    for key, aad, sealed in (
        (b"\x01", b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03", b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ):
        opened = decode.xaes_open(key * 32, nonce + bytes.fromhex(sealed), aad)
        yield None if opened == b"XAES-256-GCM" else "XAES-256-GCM: a vector of C2SP does not open"


def check_page():
    """The lines that docs/format.md shows for leaving Claviger, on a vector of suite 2."""
    lines = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "format.md").read_text(), re.DOTALL).group(1)
    vector = json.loads((VECTORS / "good" / "suite2-len-32.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "blob").write_text(vector["blob"])
        (folder / "context").write_text(json.dumps(vector["context"]))
        program = [sys.executable, decode.__file__, "blob", "--context", "context", "--out", "."]
        subprocess.run(program, cwd=folder, check=True, capture_output=True)
        (folder / "k").write_bytes(bytes.fromhex(vector["k"]))
        subprocess.run([sys.executable, "-c", lines], cwd=folder, check=True)
        plaintext = (folder / "plaintext").read_bytes()
    yield None if plaintext.hex() == vector["plaintext"] else "docs/format.md: the lines for suite 2 give another plaintext"


def check_unchanged():
    """The folder only ever grows: its generator still makes every file as it stands."""
    made = subprocess.run([sys.executable, VECTORS / "generate.py", "--check"], capture_output=True, text=True)
    yield None if made.returncode == 0 else f"tests/vectors: {made.stdout}{made.stderr}"


def main():
    checks = [
        *check_vectors("good", ("plaintext", "seal", "usable")),
        *check_vectors("bad", ("error",)),
        *check_xaes(),
        *check_page(),
        *check_unchanged(),
        *check_files.checks(),
    ]
    failures = [check for check in checks if check]
    for failure in failures:
        print("FAILED", failure)
    print(f"{len(checks) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
