#!/usr/bin/env python3
"""Makes the vectors of this folder. It adds and never changes:

    python3 tests/vectors/generate.py           writes the vectors that are missing
    python3 tests/vectors/generate.py --check   compares every file, byte for byte

It shares no code with the decoders: it writes every byte itself, the wrong ones too. All
randomness is derived from the vector's name, so that each run makes the same files.
"""

import argparse
import base64
import hashlib
import hmac
import json
import pathlib
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).resolve().parent
CREATED = 1_790_000_000
KEYS = {1: "0198c0de000070008000000000000002", 2: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"}
KEYS |= {3: "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k", 4: "https://example.vault.azure.net/keys/k"}
KEYS |= {5: "team-a/transit/k", 6: "foo", 7: "9f2c", 8: "0123456789abcdef/01ff"}
VERSIONS = {1: "1", 3: "7", 4: "0123456789abcdef0123456789abcdef", 5: "3"}


class Raw(bytes):
    """Bytes that already are encoded."""


def head(major, value, width=None):
    """A CBOR head; a width asks for that many bytes although fewer would do."""
    if width is None:
        if value < 24:
            return Raw([major << 5 | value])
        width = next(w for w in (1, 2, 4, 8) if value < 1 << (8 * w))
    return Raw(bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + value.to_bytes(width, "big"))


def cbor(value):
    match value:
        case Raw():
            return value
        case None:
            return Raw(b"\xf6")
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return Raw(head(2, len(value)) + value)
        case str():
            return Raw(head(3, len(value.encode())) + value.encode())
        case list():
            return Raw(head(4, len(value)) + b"".join(map(cbor, value)))
        case Pairs():
            return Raw(head(5, len(value.pairs)) + b"".join(cbor(k) + cbor(v) for k, v in value.pairs))
    raise TypeError(value)


class Pairs:
    """A map in the order given, right or wrong."""

    def __init__(self, *pairs):
        self.pairs = list(pairs)

    def without(self, key):
        return Pairs(*(pair for pair in self.pairs if pair[0] != key))

    def swapped(self, a, b):
        pairs = list(self.pairs)
        pairs[a], pairs[b] = pairs[b], pairs[a]
        return Pairs(*pairs)

    def set(self, key, value):
        return Pairs(*((k, value if k == key else v) for k, v in self.pairs))

    def also(self, *pairs):
        return Pairs(*self.pairs, *pairs)


def framed(data):
    return len(data).to_bytes(4, "big") + data


def sha(key, data):
    return hmac.digest(key, data, "sha256")


def ctx_bytes(pairs):
    ordered = sorted(pairs.items(), key=lambda pair: cbor(pair[0]))
    return bytes(head(5, len(ordered)) + b"".join(cbor(k) + cbor(v) for k, v in ordered))


def xaes_seal(key, nonce, aad, plaintext):
    def aes(block):
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        return encryptor.update(block) + encryptor.finalize()

    doubled = int.from_bytes(aes(bytes(16)), "big") << 1
    k1 = (doubled ^ 0x87 if doubled >> 128 else doubled) & ((1 << 128) - 1)
    blocks = [int.from_bytes(bytes([0, i, 0x58, 0]) + nonce[:12], "big") ^ k1 for i in (1, 2)]
    derived = b"".join(aes(block.to_bytes(16, "big")) for block in blocks)
    return nonce + AESGCM(derived).encrypt(nonce[12:], plaintext, aad)


def armour(binary):
    return "clv1." + base64.urlsafe_b64encode(binary).rstrip(b"=").decode()


class Vector:
    """One envelope under construction. The members are plain, so that a bad vector changes one."""

    def __init__(self, name, note, length=32, suite=1, context=None, scope=None, created=CREATED):
        self.name, self.note, self.context = name, note, context if context is not None else {"purpose": "test"}
        self.dek_id, self.tenant_id, self.key_id = self.random("dek", 16), self.random("tenant", 16), self.random("key", 16)
        self.kek, self.shows_kek = self.random("kek", 32), False
        self.k = self.random("k", length if suite == 1 else 32)
        self.plaintext = self.k if suite == 1 else self.random("plaintext", length)
        self.header = Pairs((1, suite), (2, self.dek_id), (3, self.tenant_id), (4, self.key_id), (5, length), (6, created))
        self.scope = scope
        if scope is not None:
            self.header = self.header.also((7, scope))
        self.suite = suite
        self.seal_key = self.random("seal", 40)
        self.seal_keys = [self.seal_key]
        self.status = "sealed"
        self.recipients = [self.local()]
        self.usable = [True]
        # Each of these, when set, stands in for what would be made.
        self.header_raw = self.commitment = self.recipients_raw = self.payload = self.outer = None
        self.binary_raw = self.blob = None
        self.seal = "made"

    def random(self, label, count):
        return hashlib.shake_256(f"claviger vector/{self.name}/{label}".encode()).digest(count)

    def ctx(self):
        bound = {"claviger:tenant": self.tenant_id.hex(), "claviger:key": self.key_id.hex(), "claviger:dek": self.dek_id.hex()}
        if self.scope is not None:
            bound["claviger:scope"] = self.scope
        return ctx_bytes(self.context | bound)

    def recipient(self, provider, algorithm, ciphertext, key=None, version=None, role=0):
        key = KEYS.get(provider, "key") if key is None else key
        version = VERSIONS.get(provider, "") if version is None else version
        return Pairs((1, role), (2, provider), (3, key), (4, version), (5, algorithm), (6, ciphertext))

    def local(self, label="recipient", **more):
        """A recipient of algorithm 6 that really holds K."""
        self.shows_kek = True
        sealed = xaes_seal(self.kek, self.random(label, 24), self.ctx(), self.k)
        return self.recipient(1, 6, sealed, **more)

    def other(self, provider, algorithm, length, **more):
        """A recipient whose ciphertext is only long enough."""
        return self.recipient(provider, algorithm, self.random(f"{provider}/{algorithm}", length), **more)

    def only(self, *recipients, usable=None):
        self.recipients = list(recipients)
        self.usable = usable if usable is not None else [True] * len(recipients)
        self.shows_kek = any((5, 6) in r.pairs and (2, 1) in r.pairs for r in recipients)
        return self

    def build(self):
        """The text form."""
        if self.blob is not None:
            return self.blob
        if self.binary_raw is not None:
            return armour(self.binary_raw)
        return armour(self.binary())

    def binary(self):
        header = bytes(cbor(self.header)) if self.header_raw is None else self.header_raw
        prk = sha(b"claviger/v1", self.k)
        commitment = self.commitment
        if commitment is None:
            commitment = sha(sha(prk, b"commit" + self.dek_id + b"\x01"), framed(header) + framed(self.ctx()))
        payload = self.payload
        if payload is None and self.suite == 2:
            payload = AESGCM(sha(prk, b"payload" + self.dek_id + b"\x01")).encrypt(bytes(12), self.plaintext, header)
        recipients = cbor(self.recipients) if self.recipients_raw is None else self.recipients_raw
        seal = self.seal
        if seal == "made":
            shown = b"" if payload in (None, "null") or isinstance(payload, Raw) else payload
            parts = framed(header) + framed(bytes(commitment)) + framed(bytes(recipients)) + framed(shown)
            seal = self.seal_key[:8] + sha(self.seal_key[8:], b"claviger/seal/v1" + parts)
        members = [header, commitment, recipients, None if payload == "null" else payload, seal]
        outer = self.outer(members) if self.outer else cbor(members)
        return b"CLV\x01" + outer

    def file(self, folder, error=None):
        vector = {"description": self.note, "blob": self.build(), "context": self.context}
        vector |= {"seal_keys": [key.hex() for key in self.seal_keys], "k": self.k.hex()}
        if self.shows_kek:
            vector["kek"] = self.kek.hex()
        if error:
            vector["error"] = error
        else:
            vector |= {"plaintext": self.plaintext.hex(), "seal": self.status, "usable": self.usable}
        text = json.dumps(vector, indent=2, ensure_ascii=False) + "\n"
        return f"{folder}/{self.name}.json", text.encode()


def main():
    import bad
    import good

    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true", help="write nothing")
    check = arguments.parse_args().check
    files = [*good.files(), *bad.files()]
    names = [name for name, _ in files]
    if len(set(names)) != len(names):
        sys.exit("two vectors have one name")
    wrong, added = [], 0
    for name, content in files:
        path = HERE / name
        if path.exists():
            if path.read_bytes() != content:
                wrong.append(f"{name} would change")
        elif check:
            wrong.append(f"{name} is missing")
        else:
            path.write_bytes(content)
            added += 1
    present = {f"{path.parent.name}/{path.name}" for path in HERE.glob("*/*.json")}
    wrong += [f"{name} is not made by the generator" for name in sorted(present - set(names))]
    for line in wrong:
        print(line)
    print(f"{len(files)} vectors, {added} added, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    sys.modules["generate"] = sys.modules["__main__"]
    main()
