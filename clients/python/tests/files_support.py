"""What the tests of encrypted files share: the vectors, and the functions with a client of either kind."""

import base64
import functools
import hashlib
import importlib.util
import json
import types

from conftest import ROOT, Blocking
from stub import answer

from claviger_client import AsyncClient, Client, files

VECTORS = ROOT / "tests" / "vectors" / "files"


class Files:
    """`claviger_client.files` with a client of either kind. What an `AsyncClient` makes of it runs to its end."""

    def __init__(self, client):
        self._client = client
        self.kind = AsyncClient if isinstance(client, Blocking) else Client

    def __getattr__(self, name):
        function = getattr(files, name)
        if not isinstance(self._client, Blocking):
            return functools.partial(function, self._client)
        bound = types.SimpleNamespace(call=functools.partial(function, self._client._client))
        return Blocking(bound, self._client._loop).call


def load(folder):
    found = {path.stem: json.loads(path.read_text()) for path in sorted((VECTORS / folder).glob("*.json"))}
    assert found, "there are vectors"
    return found


GOOD = load("good")
BAD = load("bad")
ENCRYPTED = {name: base64.b64decode(vector["file"]) for name, vector in GOOD.items()}


def pattern(length):
    """The plaintext of the vectors."""
    blocks = (hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def joined(pieces):
    """The file of a bad vector."""
    return b"".join(bytes.fromhex(p["hex"]) if "hex" in p else ENCRYPTED[p["of"]][p["from"] : p["to"]] for p in pieces)


def sliced(data, size):
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


def unwrapped(k):
    """A gateway's response to an unwrap."""
    return answer(200, {"plaintext": base64.b64encode(k).decode(), "key": "orders", "version": 1, "cached": False})


def envelope_of(data):
    """The envelope of a file, as text."""
    envelope = data[8 : 8 + int.from_bytes(data[4:8], "big")]
    return "clv1." + base64.urlsafe_b64encode(envelope).decode().rstrip("=")


@functools.cache
def reader():
    """The reader that was written from the page, and shares no code with the client."""
    specification = importlib.util.spec_from_file_location("claviger_file", ROOT / "tests" / "decoder" / "claviger_file.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
