#!/usr/bin/env python3
"""Reads a wrapped key of Claviger. Written from docs/format.md alone.

As a program it takes an envelope apart, so that its provider's own tools can open it:

    claviger_decode.py blob.txt --context context.json --out folder

As a module: parse(), Envelope.ctx(), Envelope.seal_status(), Envelope.open().
The only library is `cryptography`, for AES; CBOR is read by hand because it must be strict.
"""

import argparse
import base64
import hmac
import json
import pathlib
import re
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_BINARY = 16_384
MAX_TEXT = 21_851
DATA_KEY_LENGTHS = (16, 24, 32, 48, 64)
MAX_CREATED = 253_402_300_799


class Refused(Exception):
    """The envelope is refused; `code` is the error of the page."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def invalid_unless(condition):
    if not condition:
        raise Refused("invalid_envelope")


# CBOR, RFC 8949 section 4.2.1: only what the format uses, and only in its one encoding.


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        invalid_unless(count <= len(self.data) - self.at)
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self, major):
        first = self.take(1)[0]
        invalid_unless(first >> 5 == major)
        info = first & 31
        if info < 24:
            return info
        invalid_unless(info <= 27)  # 28 to 30 are not assigned, 31 is an indefinite length
        width = 1 << (info - 24)
        value = int.from_bytes(self.take(width), "big")
        shortest = 24 if width == 1 else 1 << (4 * width)
        invalid_unless(value >= shortest)
        return value

    def unsigned(self):
        return self.head(0)

    def bytes(self):
        return self.take(self.head(2))

    def text(self):
        try:
            return self.take(self.head(3)).decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise Refused("invalid_envelope") from None

    def bytes_or_null(self):
        if self.at < len(self.data) and self.data[self.at] == 0xF6:
            self.at += 1
            return None
        return self.bytes()

    def key(self, expected):
        """Keys ascend and are fixed, so each place has one possible key."""
        invalid_unless(self.unsigned() == expected)

    def end(self):
        invalid_unless(self.at == len(self.data))


def cbor_head(major, value):
    if value < 24:
        return bytes([major << 5 | value])
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << (8 * width):
            return bytes([major << 5 | info]) + value.to_bytes(width, "big")
    raise ValueError("more than 64 bits")


def cbor_text(text):
    raw = text.encode("utf-8")
    return cbor_head(3, len(raw)) + raw


def framed(data):
    return struct.pack(">I", len(data)) + data


# The parts of an envelope.


class Header:
    def __init__(self, raw):
        self.raw = raw
        reader = Reader(raw)
        members = reader.head(5)
        reader.key(1)
        self.suite = reader.unsigned()
        if self.suite not in (1, 2):
            raise Refused("envelope_version_unsupported")
        invalid_unless(members in (6, 7))
        ids = []
        for key in (2, 3, 4):
            reader.key(key)
            value = reader.bytes()
            invalid_unless(len(value) == 16)
            ids.append(value)
        self.dek_id, self.tenant_id, self.key_id = ids
        reader.key(5)
        self.plaintext_length = reader.unsigned()
        if self.suite == 1:
            invalid_unless(self.plaintext_length in DATA_KEY_LENGTHS)
            self.k_length, self.payload_length = self.plaintext_length, None
        else:
            invalid_unless(1 <= self.plaintext_length <= 4096)
            self.k_length, self.payload_length = 32, self.plaintext_length + 16
        reader.key(6)
        self.created = reader.unsigned()
        invalid_unless(self.created <= MAX_CREATED)
        self.scope = None
        if members == 7:
            reader.key(7)
            self.scope = reader.text()
            invalid_unless(1 <= len(self.scope.encode()) <= 1024)
        reader.end()


class Recipient:
    def __init__(self, reader, k_length):
        invalid_unless(reader.head(5) == 6)
        reader.key(1)
        self.role = reader.unsigned()
        invalid_unless(self.role in (0, 1))
        reader.key(2)
        self.provider = reader.unsigned()
        reader.key(3)
        self.key_id = reader.text()
        invalid_unless(len(self.key_id.encode()) <= 512)
        reader.key(4)
        self.key_version = reader.text()
        invalid_unless(len(self.key_version.encode()) <= 128)
        reader.key(5)
        self.algorithm = reader.unsigned()
        reader.key(6)
        self.ciphertext = reader.bytes()
        invalid_unless(len(self.ciphertext) <= 6144)
        self.usable = 1 <= self.provider <= 8 and self.has_shape(k_length)

    def has_shape(self, k_length):
        length = len(self.ciphertext)
        match self.algorithm:
            case 1:
                return length > 0
            case 2 | 8:
                return 256 <= length <= 1024
            case 3 | 4:
                return length == k_length + 8
            case 5:
                return length == k_length + 28
            case 6:
                return length == k_length + 40
            case 7:
                try:
                    reader = Reader(self.ciphertext)
                    invalid_unless(reader.head(4) == 4)
                    iv, ct, tag, metadata = (len(reader.bytes()) for _ in range(4))
                    reader.end()
                except Refused:
                    return False
                return iv in (12, 16) and ct == k_length and tag == 16 and metadata <= 20
            case _:
                return False


class Envelope:
    def __init__(self, binary):
        reader = Reader(binary)
        reader.at = 4
        invalid_unless(reader.head(4) == 5)
        self.header = Header(reader.bytes())
        self.commitment = reader.bytes()
        invalid_unless(len(self.commitment) == 32)
        start = reader.at
        count = reader.head(4)
        invalid_unless(1 <= count <= 8)
        self.recipients = [Recipient(reader, self.header.k_length) for _ in range(count)]
        names = {(r.provider, r.key_id, r.key_version) for r in self.recipients}
        invalid_unless(len(names) == count)
        self.recipients_raw = binary[start : reader.at]
        self.payload = reader.bytes_or_null()
        length = None if self.payload is None else len(self.payload)
        invalid_unless(length == self.header.payload_length)
        self.seal = reader.bytes_or_null()
        invalid_unless(self.seal is None or len(self.seal) == 40)
        reader.end()

    def ctx(self, pairs):
        """The pairs that the envelope binds, in the order of their encoding."""
        if len(pairs) > 16 or sum(len((n + v).encode()) for n, v in pairs.items()) > 2048:
            raise Refused("invalid_request")
        for name, value in pairs.items():
            fits = 1 <= len(name.encode()) <= 128 and 1 <= len(value.encode()) <= 1024
            if not fits or name.startswith("claviger:"):
                raise Refused("invalid_request")
        header = self.header
        bound = dict(pairs)
        bound["claviger:tenant"] = header.tenant_id.hex()
        bound["claviger:key"] = header.key_id.hex()
        bound["claviger:dek"] = header.dek_id.hex()
        if header.scope is not None:
            bound["claviger:scope"] = header.scope
        return dict(sorted(bound.items(), key=lambda pair: cbor_text(pair[0])))

    def seal_status(self, keys):
        """`sealed` or `unsealed`; `keys` are 40 bytes each, name and key."""
        if self.seal is None:
            return "unsealed"
        parts = (self.header.raw, self.commitment, self.recipients_raw, self.payload or b"")
        sealed = b"claviger/seal/v1" + b"".join(map(framed, parts))
        named = [key for key in keys if key[:8] == self.seal[:8]]
        if not named:
            return "unsealed"
        if any(hmac.compare_digest(hmac.digest(key[8:], sealed, "sha256"), self.seal[8:]) for key in named):
            return "sealed"
        raise Refused("ciphertext_rejected")

    def open(self, k, ctx):
        """The plaintext, from a K that a provider gave for a usable recipient."""
        if not any(recipient.usable for recipient in self.recipients):
            raise Refused("ciphertext_rejected")
        dek_id, header = self.header.dek_id, self.header.raw
        prk = hmac.digest(b"claviger/v1", k, "sha256")
        expand = lambda label: hmac.digest(prk, label + dek_id + b"\x01", "sha256")
        commitment = hmac.digest(expand(b"commit"), framed(header) + framed(ctx_bytes(ctx)), "sha256")
        if not hmac.compare_digest(commitment, self.commitment) or len(k) != self.header.k_length:
            raise Refused("ciphertext_rejected")
        if self.header.suite == 1:
            return k
        try:
            return AESGCM(expand(b"payload")).decrypt(bytes(12), self.payload, header)
        except InvalidTag:
            raise Refused("ciphertext_rejected") from None


def ctx_bytes(ctx):
    return cbor_head(5, len(ctx)) + b"".join(cbor_text(n) + cbor_text(v) for n, v in ctx.items())


def parse(text):
    """The envelope of a text form."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT:
        raise Refused("too_large")
    if not text.startswith("clv1."):
        raise Refused("envelope_version_unsupported")
    body = text[5:]
    invalid_unless(re.fullmatch("[A-Za-z0-9_-]*", body) and len(body) % 4 != 1)
    binary = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    # Encoding again finds unused bits that are not zero.
    invalid_unless(base64.urlsafe_b64encode(binary).rstrip(b"=").decode() == body)
    return parse_binary(binary)


def parse_binary(binary):
    """The envelope of a binary form."""
    if len(binary) > MAX_BINARY:
        raise Refused("too_large")
    if not binary.startswith(b"CLV\x01"):
        raise Refused("envelope_version_unsupported")
    return Envelope(binary)


def xaes_open(key, sealed, aad):
    """XAES-256-GCM (C2SP): algorithm 6, for one who holds the KEK itself."""

    def aes(block):
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 one block of CMAC
        return int.from_bytes(encryptor.update(block.to_bytes(16, "big")) + encryptor.finalize(), "big")

    nonce, ciphertext = sealed[:24], sealed[24:]
    subkey = aes(0) << 1
    if subkey >> 128:
        subkey = subkey & ((1 << 128) - 1) ^ 0x87
    derived = b""
    for counter in (1, 2):
        block = bytes([0, counter, 0x58, 0]) + nonce[:12]
        derived += aes(int.from_bytes(block, "big") ^ subkey).to_bytes(16, "big")
    try:
        return AESGCM(derived).decrypt(nonce[12:], ciphertext, aad)
    except InvalidTag:
        raise Refused("ciphertext_rejected") from None


def main():
    arguments = argparse.ArgumentParser(description="Takes a wrapped key of Claviger apart.")
    arguments.add_argument("blob", type=pathlib.Path, help="file with the text form")
    arguments.add_argument("--context", type=pathlib.Path, help="file with the context as a JSON object")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="folder for the parts")
    options = arguments.parse_args()
    try:
        envelope = parse(options.blob.read_text().strip())
        ctx = envelope.ctx(json.loads(options.context.read_text()) if options.context else {})
    except Refused as refused:
        raise SystemExit(f"refused: {refused.code}") from None
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "header").write_bytes(envelope.header.raw)
    (options.out / "payload").write_bytes(envelope.payload or b"")
    (options.out / "ctx").write_bytes(ctx_bytes(ctx))
    (options.out / "ctx.json").write_text(json.dumps(ctx, ensure_ascii=False))
    for number, recipient in enumerate(envelope.recipients):
        (options.out / f"ciphertext.{number}").write_bytes(recipient.ciphertext)
        print(f"recipient {number}: provider {recipient.provider} key {recipient.key_id!r} ", end="")
        print(f"version {recipient.key_version!r} algorithm {recipient.algorithm} usable {recipient.usable}")


if __name__ == "__main__":
    main()
