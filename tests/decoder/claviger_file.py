#!/usr/bin/env python3
"""Reads an encrypted file of Claviger. Written from docs/file-format.md alone.

As a program it opens a file with its data key, or takes the wrapped key out of it:

    claviger_file.py FILE --key k --out content
    claviger_file.py FILE --wrapped

As a module: read_header(), plaintext(), open_chunks().
The only library is `cryptography`, for AES-GCM; the chunks are read by hand, one at a time.
"""

import argparse
import base64
import hashlib
import hmac
import os
import pathlib
import sys
import tempfile

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_ENVELOPE = 16_384
SALT, COMMITMENT = 24, 32
CHUNK, TAG = 16_384, 16
MOST_CHUNKS = 1 << 38


class Refused(Exception):
    """The file is refused; `code` is the error of the page."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def take(stream, count):
    """As many bytes as asked for; fewer only where the stream ends."""
    taken = b""
    while len(taken) < count and (more := stream.read(count - len(taken))):
        taken += more
    return taken


def field(stream, count):
    taken = take(stream, count)
    if len(taken) < count:
        raise Refused("file_truncated")
    return taken


def read_header(stream):
    """The header's bytes up to the envelope's end, and then the envelope, salt and commitment."""
    magic = take(stream, 3)
    if magic != b"CLF":
        raise Refused("file_unrecognized")
    version = field(stream, 1)
    if version != b"\x01":
        raise Refused("file_version_unsupported")
    length = field(stream, 4)
    if int.from_bytes(length, "big") > MAX_ENVELOPE:
        raise Refused("file_damaged")
    envelope = field(stream, int.from_bytes(length, "big"))
    return magic + version + length + envelope, envelope, field(stream, SALT), field(stream, COMMITMENT)


def expand(prk, info, length):
    """HKDF-Expand with SHA-512."""
    made, block, number = b"", b"", 1
    while len(made) < length:
        block = hmac.digest(prk, block + info + bytes([number]), "sha512")
        made, number = made + block, number + 1
    return made[:length]


def open_chunks(k, context, salt, commitment, stream):
    """The content, chunk by chunk: Cobblestone-256 of C2SP, from behind the commitment on."""
    derived = expand(k, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context, 76)
    # K's length is checked where it counts: HMAC takes any.
    if len(k) != 32 or not hmac.compare_digest(derived[44:], commitment):
        raise Refused("file_header_mismatch")
    key, base_nonce = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")
    for number in range(MOST_CHUNKS):
        sealed = take(stream, CHUNK + TAG)
        if len(sealed) < TAG:
            raise Refused("file_truncated")
        try:
            yield key.decrypt((base_nonce ^ number).to_bytes(12, "big"), sealed, None)
        except InvalidTag:
            raise Refused("file_damaged") from None
        if len(sealed) < CHUNK + TAG:
            return
    raise Refused("file_damaged")


def plaintext(k, stream):
    """The content of a file whose data key is K, chunk by chunk. Nothing is whole before the last one."""
    header, _, salt, commitment = read_header(stream)
    yield from open_chunks(k, hashlib.sha256(header).digest(), salt, commitment, stream)


def main():
    arguments = argparse.ArgumentParser(description="Opens an encrypted file of Claviger.")
    arguments.add_argument("file", type=pathlib.Path)
    arguments.add_argument("--wrapped", action="store_true", help="print the wrapped key as text, and open nothing")
    arguments.add_argument("--key", type=pathlib.Path, help="file with the data key, 32 bytes")
    arguments.add_argument("--out", type=pathlib.Path, help="file for the content; it appears when all of it is authenticated")
    options = arguments.parse_args()
    if not options.wrapped and not (options.key and options.out):
        arguments.error("give --wrapped, or --key and --out")
    try:
        with options.file.open("rb") as stream:
            if options.wrapped:
                print("clv1." + base64.urlsafe_b64encode(read_header(stream)[1]).decode().rstrip("="))
                return
            with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
                part = pathlib.Path(folder) / "content"
                with part.open("xb") as out:
                    for chunk in plaintext(options.key.read_bytes(), stream):
                        out.write(chunk)
                os.replace(part, options.out)
    except Refused as refused:
        sys.exit(f"refused: {refused.code}")


if __name__ == "__main__":
    main()
