"""Holds the reader of encrypted files against the vectors of tests/vectors/files."""

import base64
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import claviger_decode as decode
import claviger_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors" / "files"


class Piecewise(io.RawIOBase):
    """A source that gives less than it is asked for, as sockets do."""

    def __init__(self, data):
        self.rest = memoryview(data)

    def read(self, size=-1):
        taken, self.rest = self.rest[: min(size, 1000)], self.rest[min(size, 1000) :]
        return bytes(taken)


def load(folder):
    found = {file.stem: json.loads(file.read_text()) for file in sorted((VECTORS / folder).glob("*.json"))}
    if not found:
        raise SystemExit(f"tests/vectors/files/{folder}: no vectors")
    return found


def joined(pieces, files):
    """The bytes of a bad vector."""
    taken = (bytes.fromhex(p["hex"]) if "hex" in p else files[p["of"]][p["from"] : p["to"]] for p in pieces)
    return b"".join(taken)


def pattern(length):
    """The plaintext of the vectors."""
    blocks = (hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def read(chunks):
    """What came out, and the error that ended it."""
    content = b""
    try:
        for chunk in chunks:
            content += chunk
    except claviger_file.Refused as refused:
        return content, refused.code
    return content, None


def check_good(files):
    for name, vector in load("good").items():
        k, length = bytes.fromhex(vector["k"]), vector["plaintext_length"]
        for stream in (io.BytesIO(files[name]), Piecewise(files[name])):
            content, error = read(claviger_file.plaintext(k, stream))
            right = error is None and content == pattern(length) and hashlib.sha256(content).hexdigest() == vector["plaintext_sha256"]
            yield None if right else f"files/good/{name}: {error or 'another plaintext'}"
        # The whole way: the envelope, its recipient, and the commitment give K.
        envelope = decode.parse_binary(claviger_file.read_header(io.BytesIO(files[name]))[1])
        ctx = envelope.ctx(vector["context"])
        unwrapped = decode.xaes_open(bytes.fromhex(vector["kek"]), envelope.recipients[0].ciphertext, decode.ctx_bytes(ctx))
        yield None if envelope.open(unwrapped, ctx) == k else f"files/good/{name}: the envelope gives another K"


def check_bad(files):
    for name, vector in load("bad").items():
        data = joined(vector["pieces"], files)
        for stream in (io.BytesIO(data), Piecewise(data)):
            content, error = read(claviger_file.plaintext(bytes.fromhex(vector["k"]), stream))
            if error != vector["error"]:
                yield f"files/bad/{name}: expected {vector['error']}, found {error}"
            elif content != pattern(vector["authenticated_length"]):
                yield f"files/bad/{name}: gives out {len(content)} bytes, and {vector['authenticated_length']} are authenticated"
            else:
                yield None


def check_program(files):
    """The reader as a program: what it writes, and that a file that fails leaves nothing behind."""
    vector = load("good")["40-kib"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "k").write_bytes(bytes.fromhex(vector["k"]))
        (folder / "good").write_bytes(files["40-kib"])
        (folder / "bad").write_bytes(files["40-kib"][:-1])

        def run(*arguments):
            return subprocess.run([sys.executable, claviger_file.__file__, *arguments], cwd=folder, capture_output=True, text=True)

        wrapped = run("good", "--wrapped")
        header = claviger_file.read_header(io.BytesIO(files["40-kib"]))
        same = wrapped.returncode == 0 and decode.parse(wrapped.stdout.strip()).header.raw == decode.parse_binary(header[1]).header.raw
        yield None if same else f"claviger_file.py --wrapped: {wrapped.stdout}{wrapped.stderr}"
        refused = run("bad", "--key", "k", "--out", "content")
        left = sorted(path.name for path in folder.iterdir())
        clean = refused.returncode == 1 and "file_damaged" in refused.stderr and left == ["bad", "good", "k"]
        yield None if clean else f"claviger_file.py on a cut file: {refused.returncode} {refused.stderr} {left}"
        opened = run("good", "--key", "k", "--out", "content")
        right = opened.returncode == 0 and (folder / "content").read_bytes() == pattern(vector["plaintext_length"])
        yield None if right else f"claviger_file.py: {opened.returncode} {opened.stderr}"


def check_unchanged():
    """The folder only ever grows: its generator still makes every file as it stands."""
    made = subprocess.run([sys.executable, VECTORS / "generate_files.py", "--check"], capture_output=True, text=True)
    yield None if made.returncode == 0 else f"tests/vectors/files: {made.stdout}{made.stderr}"


def checks():
    """None for each check that passed, or what is wrong."""
    files = {name: base64.b64decode(vector["file"]) for name, vector in load("good").items()}
    yield from check_good(files)
    yield from check_bad(files)
    yield from check_program(files)
    yield from check_unchanged()
