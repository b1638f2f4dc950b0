#!/usr/bin/env python3
"""Makes the vectors of this folder. It adds and never changes:

    python3 tests/vectors/files/generate_files.py           writes the vectors that are missing
    python3 tests/vectors/files/generate_files.py --check   compares every file, byte for byte

It shares no code with readers and clients: HKDF-Expand and each chunk are written out here. That it is the
published scheme is shown by `cryptography.cobblestone`, an implementation that is not ours: that opens each
good vector, and refuses each bad one that it gets to see. All randomness is derived from the vector's name.
"""

import argparse
import base64
import hashlib
import hmac
import json
import pathlib
import sys

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from generate import Vector  # noqa: E402 the generator of envelopes, in the folder above

CHUNK, TAG, SEALED = 16_384, 16, 16_400
UNRECOGNIZED, VERSION, TRUNCATED = "file_unrecognized", "file_version_unsupported", "file_truncated"
DAMAGED, MISMATCH = "file_damaged", "file_header_mismatch"


def expand(prk, info, length):
    """HKDF-Expand of RFC 5869, with SHA-512."""
    block, made, number = b"", b"", 0
    while len(made) < length:
        number += 1
        block = hmac.digest(prk, block + info + bytes([number]), "sha512")
        made += block
    return made[:length]


def pattern(length):
    """The plaintext: SHA-256(u32be(0)) || SHA-256(u32be(1)) || ..., as long as wanted."""
    blocks = (hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(-(-length // 32)))
    return b"".join(blocks)[:length]


class File:
    """A good file, whose parts can be taken."""

    def __init__(self, name, note, length, bound=True, k_length=32):
        self.name, self.note, self.length = name, note, length
        self.envelope = Vector(f"file-{name}", note)
        self.k = self.envelope.k[:k_length]
        binary = self.envelope.binary()
        self.header = b"CLF\x01" + len(binary).to_bytes(4, "big") + binary
        self.context = hashlib.sha256(self.header).digest() if bound else b""
        self.data = self.header + self.seal(pattern(length))
        self.salt, self.commitment, self.chunks = len(self.header), len(self.header) + 24, len(self.header) + 56

    def seal(self, plaintext):
        salt = self.envelope.random("salt", 24)
        derived = expand(self.k, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + self.context, 76)
        key, nonce, commitment = derived[:32], int.from_bytes(derived[32:44], "big"), derived[44:]
        sealed = salt + commitment
        # One more than there are full chunks: the last chunk is always shorter, and may be empty.
        for number in range(len(plaintext) // CHUNK + 1):
            chunk = plaintext[number * CHUNK : (number + 1) * CHUNK]
            sealed += AESGCM(key).encrypt((nonce ^ number).to_bytes(12, "big"), chunk, None)
        return sealed

    def part(self, begin, end=None):
        """The bytes from `begin` to `end`; without an end, all that follow."""
        return {"of": self.name, "from": begin, "to": len(self.data) if end is None else end}

    def flipped(self, at, bit=0):
        """The whole file with one bit changed; `at` may count from the end."""
        at %= len(self.data)
        return [self.part(0, at), {"hex": f"{self.data[at] ^ 1 << bit:02x}"}, self.part(at + 1)]

    def cut(self, end):
        return [self.part(0, end % len(self.data))]


EMPTY = File("empty", "no bytes: one empty chunk", 0)
ONE = File("one-byte", "one byte", 1)
SHORT = File("16-kib-less-1", "16,383 bytes: the longest last chunk", CHUNK - 1)
FULL = File("16-kib", "16,384 bytes: a full chunk, and an empty one", CHUNK)
OVER = File("16-kib-and-1", "16,385 bytes: a full chunk, and one of one byte", CHUNK + 1)
LONG = File("40-kib", "40,960 bytes: two full chunks, and one of half the length", 40_960)
GOOD = {file.name: file for file in (EMPTY, ONE, SHORT, FULL, OVER, LONG)}


def rewrapped(file):
    """The file with its envelope wrapped once more: another recipient and another seal around the same K."""
    envelope = Vector(f"file-{file.name}", file.note)
    envelope.recipients = [envelope.local("rewrapped")]
    binary = envelope.binary()
    return b"CLF\x01" + len(binary).to_bytes(4, "big") + binary


def bad():
    """(name, note, K, pieces, error)"""
    one = ONE.data
    yield "nothing", "no bytes", ONE.k, [], UNRECOGNIZED
    yield "magic-envelope", "a wrapped key in its binary form", ONE.k, [ONE.part(8, ONE.salt)], UNRECOGNIZED
    yield "magic-cut", "two of the magic's bytes", ONE.k, ONE.cut(2), UNRECOGNIZED
    yield "magic-lower", "the magic in lower case", ONE.k, [{"hex": b"clf".hex()}, ONE.part(3)], UNRECOGNIZED
    yield "version-cut", "no version", ONE.k, ONE.cut(3), TRUNCATED
    yield "version-0", "version 0", ONE.k, [ONE.part(0, 3), {"hex": "00"}, ONE.part(4)], VERSION
    yield "version-2", "version 2", ONE.k, [ONE.part(0, 3), {"hex": "02"}, ONE.part(4)], VERSION
    yield "version-2-only", "version 2, and nothing behind", ONE.k, [ONE.part(0, 3), {"hex": "02"}], VERSION
    yield "length-cut", "three of the length's bytes", ONE.k, ONE.cut(7), TRUNCATED
    for name, length, behind in (("16385", 16_385, True), ("max", 0xFFFFFFFF, True), ("max-only", 0xFFFFFFFF, False)):
        note = f"an envelope of {length} bytes is over the bound" + ("" if behind else ", whatever follows")
        pieces = [ONE.part(0, 4), {"hex": f"{length:08x}"}, *([ONE.part(8)] if behind else [])]
        yield f"length-{name}", note, ONE.k, pieces, DAMAGED
    for name, length in (("0", 0), ("less-1", ONE.salt - 9), ("and-1", ONE.salt - 7)):
        note = "the envelope's length is changed, so that the salt begins elsewhere"
        yield f"length-{name}", note, ONE.k, [ONE.part(0, 4), {"hex": f"{length:08x}"}, ONE.part(8)], MISMATCH
    yield "length-beyond", "the envelope is longer than the file", ONE.k, [ONE.part(0, 4), {"hex": "00004000"}, ONE.part(8)], TRUNCATED
    yield "envelope-cut", "ends inside the envelope", ONE.k, ONE.cut(ONE.salt - 1), TRUNCATED
    yield "salt-missing", "ends behind the envelope", ONE.k, ONE.cut(ONE.salt), TRUNCATED
    yield "salt-cut", "ends inside the salt", ONE.k, ONE.cut(ONE.commitment - 1), TRUNCATED
    yield "commitment-cut", "ends inside the commitment", ONE.k, ONE.cut(ONE.chunks - 1), TRUNCATED
    foreign = [OVER.part(0, OVER.salt), ONE.part(ONE.salt)]
    yield "header-foreign", "the header of another file", ONE.k, foreign, MISMATCH
    yield "header-foreign-k", "the header of another file, with that file's K", OVER.k, foreign, MISMATCH
    yield "header-rewrapped", "the same K, wrapped once more", ONE.k, [{"hex": rewrapped(ONE).hex()}, ONE.part(ONE.salt)], MISMATCH
    yield "header-unbound", "encrypted with an empty context", ONE.k, [{"hex": File("one-byte", "", 1, bound=False).data.hex()}], MISMATCH
    yield "envelope-flipped", "a bit of the envelope's seal", ONE.k, ONE.flipped(ONE.salt - 1), MISMATCH
    yield "k-foreign", "the K of another file", OVER.k, [ONE.part(0)], MISMATCH
    yield "k-16", "encrypted with a K of 16 bytes", ONE.k[:16], [{"hex": File("one-byte", "", 1, k_length=16).data.hex()}], MISMATCH
    yield "salt-flipped-first", "the first bit of the salt", ONE.k, ONE.flipped(ONE.salt, 7), MISMATCH
    yield "salt-flipped-last", "the last bit of the salt", ONE.k, ONE.flipped(ONE.commitment - 1), MISMATCH
    yield "commitment-flipped-first", "the first bit of the commitment", ONE.k, ONE.flipped(ONE.commitment, 7), MISMATCH
    yield "commitment-flipped-last", "the last bit of the commitment", ONE.k, ONE.flipped(ONE.chunks - 1), MISMATCH
    yield "chunk-missing", "ends behind the commitment", EMPTY.k, EMPTY.cut(EMPTY.chunks), TRUNCATED
    yield "chunk-cut-tag", "15 bytes of the only tag", EMPTY.k, EMPTY.cut(-1), TRUNCATED
    yield "chunk-cut", "one byte less: too short by one for its tag", ONE.k, ONE.cut(-1), DAMAGED
    yield "chunk-flipped", "a bit of the only byte", ONE.k, ONE.flipped(ONE.chunks), DAMAGED
    yield "tag-flipped", "the last bit of the file", ONE.k, ONE.flipped(-1), DAMAGED
    yield "cut-at-chunk", "the empty chunk at the end is missing", FULL.k, FULL.cut(-TAG), TRUNCATED
    yield "cut-at-chunk-2", "the last chunk is missing", LONG.k, LONG.cut(LONG.chunks + 2 * SEALED), TRUNCATED
    yield "cut-in-tag", "ends inside the last tag, which is all of the empty chunk", FULL.k, FULL.cut(-1), TRUNCATED
    yield "cut-in-tag-2", "ends inside the last tag", LONG.k, LONG.cut(-1), DAMAGED
    yield "cut-in-first-chunk", "ends inside the first chunk", LONG.k, LONG.cut(LONG.chunks + 1000), DAMAGED
    yield "cut-in-last-chunk", "ends inside the last chunk", LONG.k, LONG.cut(LONG.chunks + 2 * SEALED + 1000), DAMAGED
    yield "cut-behind-chunk", "15 bytes of the last chunk", LONG.k, LONG.cut(LONG.chunks + 2 * SEALED + 15), TRUNCATED
    a, b, c = LONG.chunks, LONG.chunks + SEALED, LONG.chunks + 2 * SEALED
    swapped = [LONG.part(0, a), LONG.part(b, c), LONG.part(a, b), LONG.part(c)]
    repeated = [LONG.part(0, b), LONG.part(a, b), LONG.part(c)]
    yield "chunks-swapped", "the two full chunks are swapped", LONG.k, swapped, DAMAGED
    yield "chunk-repeated", "the first chunk stands in place of the second", LONG.k, repeated, DAMAGED
    yield "chunk-dropped", "the second chunk is missing", LONG.k, [LONG.part(0, b), LONG.part(c)], DAMAGED
    yield "chunk-added", "the first chunk stands twice", LONG.k, [LONG.part(0, b), LONG.part(a)], DAMAGED
    yield "chunk-foreign", "the last chunk of another file", LONG.k, [LONG.part(0, c), OVER.part(OVER.chunks + SEALED)], DAMAGED
    yield "first-chunk-flipped", "a bit of the first chunk", LONG.k, LONG.flipped(a + 5000, 3), DAMAGED
    yield "first-tag-flipped", "a bit of the first chunk's tag", LONG.k, LONG.flipped(b - 1), DAMAGED
    yield "last-chunk-flipped", "a bit of the last chunk", LONG.k, LONG.flipped(c, 7), DAMAGED
    yield "last-tag-flipped", "a bit of the last tag", LONG.k, LONG.flipped(-TAG, 7), DAMAGED
    yield "trailing-byte", "a byte behind the end", ONE.k, [ONE.part(0), {"hex": "00"}], DAMAGED
    yield "trailing-byte-empty", "a byte behind an empty file's end", EMPTY.k, [EMPTY.part(0), {"hex": "00"}], DAMAGED
    yield "trailing-byte-full", "a byte behind an empty last chunk", FULL.k, [FULL.part(0), {"hex": "00"}], DAMAGED
    yield "trailing-byte-longest", "a byte makes the last chunk as long as a full one", SHORT.k, [SHORT.part(0), {"hex": "00"}], DAMAGED
    yield "trailing-byte-long", "a byte behind the end of three chunks", LONG.k, [LONG.part(0), {"hex": "00"}], DAMAGED
    yield "trailing-tag", "the last tag twice", ONE.k, [ONE.part(0), {"hex": one[-TAG:].hex()}], DAMAGED
    yield "trailing-file", "a second file behind the first", ONE.k, [ONE.part(0), EMPTY.part(0)], DAMAGED


def joined(pieces):
    """The bytes of a bad vector."""
    taken = (bytes.fromhex(p["hex"]) if "hex" in p else GOOD[p["of"]].data[p["from"] : p["to"]] for p in pieces)
    return b"".join(taken)


def opened(data, k):
    """What the implementation that is not ours hands out, chunk by chunk, and whether it was the whole file."""
    end = 8 + int.from_bytes(data[4:8], "big")
    plaintext = b""
    try:
        decryptor = Cobblestone256Decryptor(k, hashlib.sha256(data[:end]).digest())
        decryptor.update(data[end : end + 56])
        for begin in range(end + 56, len(data), SEALED):
            plaintext += decryptor.update(data[begin : begin + SEALED])
        return plaintext + decryptor.finalize(), True
    except (InvalidTag, ValueError):
        return plaintext, False


def files():
    """The name and content of each vector; stops where the other implementation disagrees."""
    for file in GOOD.values():
        plaintext = pattern(file.length)
        assert opened(file.data, file.k) == (plaintext, True), f"{file.name} does not open"
        vector = {"description": file.note, "context": file.envelope.context, "k": file.k.hex(), "kek": file.envelope.kek.hex()}
        vector["file"] = base64.b64encode(file.data).decode()
        vector |= {"plaintext_length": file.length, "plaintext_sha256": hashlib.sha256(plaintext).hexdigest()}
        yield f"good/{file.name}.json", vector
    for name, note, k, pieces, error in bad():
        data = joined(pieces)
        authenticated = b""
        if len(data) >= 8 and error in (TRUNCATED, DAMAGED, MISMATCH):
            authenticated, whole = opened(data, k)
            assert not whole, f"{name} opens"
        vector = {"description": note, "k": k.hex(), "pieces": pieces, "error": error, "authenticated_length": len(authenticated)}
        yield f"bad/{name}.json", vector


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true", help="write nothing")
    check = arguments.parse_args().check
    made = [(name, (json.dumps(vector, indent=2) + "\n").encode()) for name, vector in files()]
    names = {name for name, _ in made}
    if len(names) != len(made):
        sys.exit("two vectors have one name")
    wrong, added = [], 0
    for name, content in made:
        path = HERE / name
        if path.exists():
            wrong += [f"{name} would change"] if path.read_bytes() != content else []
        elif check:
            wrong.append(f"{name} is missing")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            added += 1
    present = {f"{path.parent.name}/{path.name}" for path in HERE.glob("*/*.json")}
    wrong += [f"{name} is not made by the generator" for name in sorted(present - names)]
    for line in wrong:
        print(line)
    print(f"{len(made)} vectors, {added} added, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
