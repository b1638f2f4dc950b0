"""The vectors that are refused, each for one reason."""

import good
from generate import Pairs, Raw, Vector, cbor, head

INVALID, VERSION, LARGE = "invalid_envelope", "envelope_version_unsupported", "too_large"
REJECTED, REQUEST = "ciphertext_rejected", "invalid_request"
FLIPPED = 1


def flip(data, at):
    return data[:at] + bytes([data[at] ^ FLIPPED]) + data[at + 1 :]


def text_form():
    def text(name, note, change, error=INVALID, **more):
        vector = Vector(f"text-{name}", note, **more)
        vector.blob = change(vector.build())
        return vector, error

    # 32 bytes and an AWS key give forms of every length modulo 3 as the context does not count; a scope does.
    def with_tail(name, note, bits):
        for scope in ("a", "ab", "abc"):
            vector = Vector(f"text-{name}", note, scope=scope)
            if len(vector.binary()) % 3 == bits:
                blob = vector.build()
                alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                vector.blob = blob[:-1] + alphabet[alphabet.index(blob[-1]) + 1]
                return vector, INVALID
        raise AssertionError

    yield text("empty", "nothing", lambda _: "", VERSION)
    yield text("prefix-only", "nothing behind the prefix", lambda _: "clv1.", VERSION)
    yield text("prefix-missing", "no prefix", lambda blob: blob[5:], VERSION)
    yield text("prefix-2", "another version's prefix", lambda blob: "clv2." + blob[5:], VERSION)
    yield text("prefix-upper", "the prefix in upper case", lambda blob: "CLV1." + blob[5:], VERSION)
    yield text("space-before", "a space before the prefix", lambda blob: " " + blob, VERSION)
    yield text("space-behind", "a line break behind", lambda blob: blob + "\n")
    yield text("break-inside", "a line break inside", lambda blob: blob[:60] + "\n" + blob[60:])
    yield text("nul", "a NUL inside", lambda blob: blob[:60] + "\u0000" + blob[61:])
    yield text("unicode", "a letter beyond ASCII", lambda blob: blob[:60] + "é" + blob[61:])
    yield text("alphabet", "standard base64", lambda blob: "clv1." + blob[5:-4].replace("-", "+").replace("_", "/") + "++//")
    yield text("dot", "a dot inside", lambda blob: blob[:60] + "." + blob[61:])
    yield with_tail("trailing-bits-2", "two unused bits are not zero", 2)
    yield with_tail("trailing-bits-4", "four unused bits are not zero", 1)
    for rest, padding in ((1, "=="), (2, "=")):
        for scope in ("a", "ab", "abc"):
            vector = Vector(f"text-padding-{rest}", "padding", scope=scope)
            if len(vector.binary()) % 3 == rest:
                vector.blob = vector.build() + padding
                yield vector, INVALID
    yield text("padding-4", "padding that no length has", lambda blob: blob + "====")
    for scope in ("a", "ab", "abc"):
        vector = Vector("text-length", "a length that base64 cannot have", scope=scope)
        if len(vector.binary()) % 3 == 0:
            vector.blob = vector.build() + "A"
            yield vector, INVALID
    yield text("long", "one character more than the longest text", lambda blob: blob + "A" * (21_852 - len(blob)), LARGE)
    yield text("huge", "far too long, and another prefix", lambda blob: "x" * 30_000, LARGE)
    vector = Vector("binary-long", "a binary form of 16,385 bytes", suite=2, length=4096)
    yield good.longest(vector, 16_385), LARGE


def outer():
    def binary(name, note, change, error=INVALID, **more):
        vector = Vector(f"outer-{name}", note, **more)
        vector.binary_raw = change(vector.binary())
        return vector, error

    yield binary("version-0", "version byte 0", lambda b: b[:3] + b"\x00" + b[4:], VERSION)
    yield binary("version-2", "version byte 2", lambda b: b[:3] + b"\x02" + b[4:], VERSION)
    yield binary("magic", "other first bytes", lambda b: b"CLW" + b[3:], VERSION)
    yield binary("magic-short", "shorter than the first four bytes", lambda b: b[:3], VERSION)
    yield binary("magic-only", "nothing behind the first four bytes", lambda b: b[:4])
    yield binary("cut", "the last byte is missing", lambda b: b[:-1])
    yield binary("cut-half", "cut in half", lambda b: b[: len(b) // 2])
    yield binary("trailing", "a byte behind the item", lambda b: b + b"\x00")
    yield binary("trailing-item", "a second item", lambda b: b + b"\xf6")
    yield binary("array-long", "the array's length is not in its shortest form", lambda b: b[:4] + b"\x98\x05" + b[5:])
    yield binary("array-indefinite", "an indefinite array", lambda b: b[:4] + b"\x9f" + b[5:] + b"\xff")
    yield binary("map", "a map and no array", lambda b: b[:4] + b"\xa5" + b[5:])
    yield binary("tagged", "a tag in front", lambda b: b[:4] + b"\xd9\xd9\xf7" + b[4:])
    yield binary("wrapped", "a byte string that holds the item", lambda b: b[:4] + cbor(b[4:]))

    def members(name, note, change, **more):
        vector = Vector(f"outer-{name}", note, **more)
        vector.outer = lambda parts: cbor(change(list(parts)))
        return vector, INVALID

    yield members("4-members", "no seal member", lambda parts: parts[:4])
    yield members("6-members", "a sixth member", lambda parts: [*parts, None])
    yield members("header-null", "null for the header", lambda parts: [None, *parts[1:]])
    yield members("header-text", "the header as text", lambda parts: ["header", *parts[1:]])
    yield members("header-map", "the header is the map itself", lambda parts: [Raw(parts[0]), *parts[1:]])
    yield members("header-long", "the header's length is not in its shortest form", lambda p: [Raw(head(2, len(p[0]), 2) + p[0]), *p[1:]])
    indefinite = lambda data: Raw(b"\x5f" + cbor(data) + b"\xff")
    yield members("header-indefinite", "an indefinite header", lambda parts: [indefinite(parts[0]), *parts[1:]])
    yield members("commitment-31", "a commitment of 31 bytes", lambda p: [p[0], p[1][:31], *p[2:]])
    yield members("commitment-33", "a commitment of 33 bytes", lambda p: [p[0], p[1] + b"\x00", *p[2:]])
    yield members("commitment-null", "no commitment", lambda p: [p[0], None, *p[2:]])
    yield members("commitment-text", "a commitment as text", lambda p: [p[0], "c" * 32, *p[2:]])
    yield members("commitment-indefinite", "an indefinite commitment", lambda p: [p[0], indefinite(p[1]), *p[2:]])
    yield members("payload-suite1", "a payload in suite 1", lambda p: [*p[:3], b"\x00" * 48, p[4]])
    yield members("payload-empty", "an empty payload in suite 1", lambda p: [*p[:3], b"", p[4]])
    yield members("payload-undefined", "undefined for null", lambda p: [*p[:3], Raw(b"\xf7"), p[4]])
    yield members("payload-false", "false for null", lambda p: [*p[:3], Raw(b"\xf4"), p[4]])
    yield members("payload-null-long", "null in two bytes", lambda p: [*p[:3], Raw(b"\xf8\x16"), p[4]])
    yield members("payload-missing", "no payload in suite 2", lambda p: [*p[:3], None, p[4]], suite=2)
    yield members("payload-short", "the payload is a byte too short", lambda p: [*p[:3], p[3][:-1], p[4]], suite=2)
    yield members("payload-long", "the payload is a byte too long", lambda p: [*p[:3], p[3] + b"\x00", p[4]], suite=2)
    yield members("payload-indefinite", "an indefinite payload", lambda p: [*p[:3], indefinite(p[3]), p[4]], suite=2)
    yield members("seal-39", "a seal of 39 bytes", lambda p: [*p[:4], p[4][:39]])
    yield members("seal-41", "a seal of 41 bytes", lambda p: [*p[:4], p[4] + b"\x00"])
    yield members("seal-empty", "an empty seal", lambda p: [*p[:4], b""])
    yield members("seal-text", "a seal as text", lambda p: [*p[:4], "s" * 40])
    yield members("seal-long", "the seal's length is not in its shortest form", lambda p: [*p[:4], Raw(head(2, 40, 2) + p[4])])


def headers():
    def header(name, note, change, error=INVALID, **more):
        vector = Vector(f"header-{name}", note, **more)
        vector.header = change(vector.header)
        return vector, error

    def raw(name, note, change, error=INVALID, **more):
        vector = Vector(f"header-{name}", note, **more)
        vector.header_raw = change(bytes(cbor(vector.header)))
        return vector, error

    for suite in (0, 3, 2**64 - 1):
        yield header(f"suite-{suite}", f"suite {suite}", lambda h: h.set(1, suite), VERSION)
    yield header("suite-3-more", "an unknown suite with members of its own", lambda h: h.set(1, 3).also((8, "new")), VERSION)
    yield header("suite-negative", "a negative suite", lambda h: h.set(1, -1))
    yield header("suite-text", "a suite as text", lambda h: h.set(1, "1"))
    yield header("suite-float", "a suite as a float", lambda h: h.set(1, Raw(b"\xf9\x3c\x00")))
    yield header("suite-long", "the suite is not in its shortest form", lambda h: h.set(1, head(0, 1, 1)))
    for key, name in ((1, "suite"), (2, "dek"), (3, "tenant"), (4, "key"), (5, "length"), (6, "created")):
        yield header(f"without-{name}", f"no member {key}", lambda h: h.without(key))
    for key, name in ((2, "dek"), (3, "tenant"), (4, "key")):
        yield header(f"{name}-15", f"member {key} has 15 bytes", lambda h: h.set(key, bytes(15)))
        yield header(f"{name}-17", f"member {key} has 17 bytes", lambda h: h.set(key, bytes(17)))
        yield header(f"{name}-text", f"member {key} is a text", lambda h: h.set(key, "t" * 16))
    for length in (0, 1, 31, 33, 65, 128):
        yield header(f"length-{length}", f"suite 1 with {length} bytes", lambda h: h.set(5, length))
    for length in (0, 4097, 65_568, 2**32 + 32):
        yield header(f"length-suite2-{length}", f"suite 2 with {length} bytes", lambda h: h.set(5, length), suite=2)
    vector = Vector("header-length-suite2-empty", "suite 2 with no byte, and the payload is its tag", suite=2, length=0)
    yield vector, INVALID
    vector = Vector("header-length-suite2-5000", "suite 2 with 5,000 bytes, and the payload fits", suite=2, length=5000)
    yield vector, INVALID
    yield header("length-long", "the length is not in its shortest form", lambda h: h.set(5, head(0, 32, 2)))
    yield header("length-negative", "a negative length", lambda h: h.set(5, -32))
    yield header("created-negative", "before 1970", lambda h: h.set(6, -1))
    yield header("created-10000", "after the year 9999", lambda h: h.set(6, 253_402_300_800))
    yield header("created-max", "the largest integer", lambda h: h.set(6, 2**64 - 1))
    yield header("created-bignum", "a big number", lambda h: h.set(6, Raw(b"\xc2\x49\x01" + bytes(8))))
    yield header("created-text", "a time as text", lambda h: h.set(6, "2026-01-01T00:00:00Z"))
    yield header("created-long", "created in eight bytes where four do", lambda h: h.set(6, head(0, 1_790_000_000, 8)))
    yield header("scope-empty", "an empty scope", lambda h: h, scope="")
    yield header("scope-long", "a scope of 1,025 bytes", lambda h: h, scope="s" * 1025)
    yield header("scope-bytes", "a scope as bytes", lambda h: h.set(7, b"orders"), scope="orders")
    yield header("scope-null", "null for no scope", lambda h: h.also((7, None)))
    yield header("scope-utf8", "a scope that is no UTF-8", lambda h: h.set(7, Raw(b"\x62\xc3\x28")), scope="orders")
    yield header("scope-surrogate", "half a surrogate pair", lambda h: h.set(7, Raw(b"\x63\xed\xa0\x80")), scope="orders")
    yield header("scope-overlong", "an overlong UTF-8 sequence", lambda h: h.set(7, Raw(b"\x62\xc0\xaf")), scope="orders")
    yield header("scope-indefinite", "an indefinite scope", lambda h: h.set(7, Raw(b"\x7f\x63ord\x63ers\xff")), scope="orders")
    yield header("order", "two keys in the wrong order", lambda h: h.swapped(1, 2))
    yield header("order-first", "the suite does not stand first", lambda h: h.swapped(0, 5))
    yield header("duplicate", "a key twice", lambda h: h.also((6, 1_790_000_000)))
    yield header("duplicate-suite", "the suite twice", lambda h: Pairs(h.pairs[0], *h.pairs))
    yield header("unknown-8", "an unknown key", lambda h: h.also((8, 0)))
    yield header("unknown-0", "the unknown key 0", lambda h: Pairs((0, 0), *h.pairs))
    yield header("unknown-text", "a key that is text", lambda h: h.also(("note", "x")))
    yield header("key-long", "a key that is not in its shortest form", lambda h: Pairs(*h.pairs[:5], (head(0, 6, 1), h.pairs[5][1])))
    yield raw("empty", "an empty header", lambda h: b"")
    yield raw("empty-map", "an empty map", lambda h: b"\xa0")
    yield raw("array", "an array and no map", lambda h: cbor([1, 2]))
    yield raw("trailing", "a byte behind the map", lambda h: h + b"\x00")
    yield raw("cut", "the last byte is missing", lambda h: h[:-1])
    yield raw("map-long", "the map's length is not in its shortest form", lambda h: b"\xb8\x06" + h[1:])
    yield raw("map-indefinite", "an indefinite map", lambda h: b"\xbf" + h[1:] + b"\xff")
    yield raw("map-huge", "a map that says it has 2^64 - 1 pairs", lambda h: b"\xbb" + b"\xff" * 8 + h[1:])
    yield raw("bytes-huge", "a byte string that says it has 2^64 - 1 bytes", lambda h: h[:4] + b"\x5b" + b"\xff" * 8 + h[5:])


def recipients():
    def first(name, note, change, error=INVALID, **more):
        vector = Vector(f"recipient-{name}", note, **more)
        vector.recipients = [change(vector.recipients[0])]
        return vector, error

    def raw(name, note, change):
        vector = Vector(f"recipients-{name}", note)
        vector.recipients_raw = Raw(change(vector))
        return vector, INVALID

    many = lambda vector, count: [vector.other(7, 5, 60, key=f"key-{n}") for n in range(count)]
    yield raw("0", "no recipient", lambda v: b"\x80")
    yield raw("9", "nine recipients", lambda v: cbor(many(v, 9)))
    yield raw("24", "24 recipients", lambda v: cbor(many(v, 24)))
    yield raw("null", "null for the recipients", lambda v: b"\xf6")
    yield raw("map", "one map and no array", lambda v: cbor(v.recipients[0]))
    yield raw("count-less", "the array says two and holds one", lambda v: b"\x82" + cbor(v.recipients)[1:])
    yield raw("count-huge", "an array that says 2^64 - 1", lambda v: b"\x9b" + b"\xff" * 8 + cbor(v.recipients)[1:])
    yield raw("long", "the array's length is not in its shortest form", lambda v: b"\x98\x01" + cbor(v.recipients)[1:])
    yield raw("indefinite", "an indefinite array", lambda v: b"\x9f" + cbor(v.recipients)[1:] + b"\xff")
    yield raw("nested", "arrays in arrays", lambda v: b"\x81" * 4000 + b"\x80")
    yield raw("duplicate", "the same recipient twice", lambda v: cbor(v.recipients * 2))
    yield raw("duplicate-role", "the same key in two roles", lambda v: cbor([v.local(), v.local(role=1)]))
    yield raw("duplicate-ciphertext", "the same key with two ciphertexts", lambda v: cbor([v.local(), v.local("second")]))
    yield raw("duplicate-algorithm", "the same key with two algorithms", lambda v: cbor([v.local(), v.other(1, 5, 60)]))
    yield raw("duplicate-last", "the first and the eighth are the same", lambda v: cbor([v.local(), *many(v, 6), v.local("last")]))
    yield raw("duplicate-unusable", "the same unknown provider's key twice", lambda v: cbor([v.other(9, 1, 5), v.local(), v.other(9, 2, 6)]))
    for role in (2, 2**64 - 1):
        yield first(f"role-{role}", f"role {role}", lambda r: r.set(1, role))
    yield first("role-negative", "a negative role", lambda r: r.set(1, -1))
    yield first("role-long", "the role is not in its shortest form", lambda r: r.set(1, head(0, 0, 1)))
    yield first("provider-negative", "a negative provider", lambda r: r.set(2, -2))
    yield first("provider-text", "a provider as text", lambda r: r.set(2, "local"))
    yield first("provider-long", "the provider is not in its shortest form", lambda r: r.set(2, head(0, 1, 8)))
    yield first("algorithm-null", "null for the algorithm", lambda r: r.set(5, None))
    yield first("algorithm-long", "the algorithm is not in its shortest form", lambda r: r.set(5, head(0, 6, 4)))
    yield first("key-513", "a key id of 513 bytes", lambda r: r.set(3, "k" * 513))
    yield first("key-513-utf8", "a key id of 257 characters and 513 bytes", lambda r: r.set(3, "é" * 256 + "k"))
    yield first("key-bytes", "a key id as bytes", lambda r: r.set(3, b"key"))
    yield first("key-utf8", "a key id that is no UTF-8", lambda r: r.set(3, Raw(b"\x61\xff")))
    yield first("key-long", "the key id's length is not in its shortest form", lambda r: r.set(3, Raw(b"\x78\x01k")))
    yield first("version-129", "a version of 129 bytes", lambda r: r.set(4, "v" * 129))
    yield first("version-integer", "a version as an integer", lambda r: r.set(4, 1))
    yield first("version-null", "null for the version", lambda r: r.set(4, None))
    yield first("ciphertext-6145", "a ciphertext of 6,145 bytes", lambda r: r.set(2, 2).set(5, 1).set(6, bytes(6145)))
    yield first("ciphertext-text", "a ciphertext as text", lambda r: r.set(2, 5).set(5, 1).set(6, "vault:v1:AAAA"))
    yield first("ciphertext-null", "null for the ciphertext", lambda r: r.set(6, None))
    yield first("ciphertext-array", "algorithm 7 not as a byte string", lambda r: r.set(5, 7).set(6, [b"", b"", b"", b""]))
    yield first("ciphertext-indefinite", "an indefinite ciphertext", lambda r: r.set(6, Raw(b"\x5f\x41a\x41b\xff")))
    for key, name in ((1, "role"), (2, "provider"), (3, "key"), (4, "version"), (5, "algorithm"), (6, "ciphertext")):
        yield first(f"without-{name}", f"no member {key}", lambda r: r.without(key))
    yield first("order", "two keys in the wrong order", lambda r: r.swapped(2, 3))
    yield first("duplicate-key", "a key twice", lambda r: r.also((6, b"")))
    yield first("unknown-7", "an unknown key", lambda r: r.also((7, 0)))
    yield first("unknown-0", "the unknown key 0", lambda r: Pairs((0, 0), *r.pairs))
    yield first("empty", "an empty map", lambda r: Pairs())
    yield first("map-long", "the map's length is not in its shortest form", lambda r: Raw(b"\xb8\x06" + cbor(r)[1:]))
    yield first("map-indefinite", "an indefinite map", lambda r: Raw(b"\xbf" + cbor(r)[1:] + b"\xff"))
    vector = Vector("no-usable-recipient", "the only recipient is of an unknown provider")
    yield vector.only(vector.other(9, 1, 72)), REJECTED


def opening():
    """Well-formed, and refused all the same. Each with a right seal and without one, so that
    the commitment and the payload's tag are tried and not the seal alone."""
    changes = {
        "k": "another K",
        "k-short": "a K that is a byte too short",
        "k-long": "a K with a byte more",
        "k-empty": "an empty K",
        "commitment-first": "the first bit of the commitment",
        "commitment-last": "the last bit of the commitment",
        "context-value": "another value in the context",
        "context-missing": "a pair of the context is missing",
        "context-more": "a pair more in the context",
        "context-case": "another case in the context",
        "context-normalised": "the context in its other Unicode form",
        "dek": "another dek_id in the header",
        "tenant": "another tenant in the header",
        "key": "another key in the header",
        "created": "another time in the header",
        "scope": "another scope in the header",
        "scope-gone": "the scope is taken away",
        "length": "another length in the header",
        "payload-first": "the first bit of the payload",
        "payload-tag": "the last bit of the payload's tag",
    }
    for change, note in changes.items():
        for sealed in (True, False):
            suite = 2 if change.startswith("payload") else 1
            context = {"café": "Zürich", "b": "2"}
            name = f"open-{change}-{'resealed' if sealed else 'unsealed'}"
            vector = Vector(name, f"{note}; {'sealed anew' if sealed else 'no seal'}", suite=suite, context=context, scope="orders")
            vector.shows_kek = False
            forge(vector, change)
            if not sealed:
                vector.seal = None
            yield vector, REJECTED
    vector = Vector("open-kek", "another KEK")
    vector.kek = vector.random("another", 32)
    yield vector, REJECTED
    for at, name in ((0, "nonce"), (30, "ciphertext"), (71, "tag")):
        vector = Vector(f"open-recipient-{name}", f"a bit of the recipient's {name}; sealed anew")
        sealed = dict(vector.recipients[0].pairs)[6]
        vector.recipients = [vector.recipients[0].set(6, flip(sealed, at))]
        yield vector, REJECTED


def forge(vector, change):
    """Makes the whole envelope as it should be, then changes one thing behind the commitment."""
    commitment = payload = None
    honest = vector.binary()
    at = honest.index(bytes(cbor(vector.header))) + len(cbor(vector.header)) + 2
    commitment = honest[at : at + 32]
    if vector.suite == 2:
        payload = honest[-42 - 48 : -42]
        vector.payload = payload
    vector.commitment = commitment
    header = vector.header
    if change == "k":
        vector.k = vector.random("another", 32)
    elif change == "k-short":
        vector.k = vector.k[:-1]
    elif change == "k-long":
        vector.k = vector.k + b"\x00"
    elif change == "k-empty":
        vector.k = b""
    elif change == "commitment-first":
        vector.commitment = bytes([commitment[0] ^ 128]) + commitment[1:]
    elif change == "commitment-last":
        vector.commitment = flip(commitment, 31)
    elif change == "context-value":
        vector.context = vector.context | {"b": "3"}
    elif change == "context-missing":
        vector.context = {"café": "Zürich"}
    elif change == "context-more":
        vector.context = vector.context | {"c": "3"}
    elif change == "context-case":
        vector.context = {"café": "Zürich", "B": "2"}
    elif change == "context-normalised":
        vector.context = {"cafe\u0301": "Zürich", "b": "2"}
    elif change == "created":
        vector.header = header.set(6, 1_790_000_001)
    elif change == "scope":
        vector.header = header.set(7, "Orders")
    elif change == "scope-gone":
        vector.header = header.without(7)
    elif change == "length":
        vector.header = header.set(5, 64)
        vector.recipients = [vector.other(7, 3, 72)]
    elif change == "payload-first":
        vector.payload = bytes([payload[0] ^ 128]) + payload[1:]
    elif change == "payload-tag":
        vector.payload = flip(payload, len(payload) - 1)
    else:
        key = {"dek": 2, "tenant": 3, "key": 4}[change]
        vector.header = header.set(key, vector.random("another", 16))


def seals():
    vector = Vector("seal-forged", "the seal names a known key and is not its own")
    vector.seal = vector.seal_key[:8] + vector.random("forged", 32)
    yield vector, REJECTED
    for at, name in ((8, "first"), (39, "last")):
        vector = Vector(f"seal-bit-{name}", "one bit of the seal")
        vector.seal = flip(vector.binary()[-40:], at)
        yield vector, REJECTED
    for part in ("header", "commitment", "recipients", "payload"):
        vector = Vector(f"seal-{part}", f"the seal of another {part}", suite=2)
        vector.seal = vector.binary()[-40:]
        if part == "header":
            vector.header = vector.header.set(6, 1)
        elif part == "commitment":
            vector.commitment = vector.random("another", 32)
        elif part == "recipients":
            vector.recipients = [vector.local("another")]
        else:
            vector.payload = vector.random("another", 48)
        yield vector, REJECTED
    vector = Vector("seal-same-name", "two keys with the seal's name, and neither made it")
    vector.seal_keys = [vector.seal_key[:8] + vector.random(label, 32) for label in "ab"]
    yield vector, REJECTED


def contexts():
    def context(name, note, pairs):
        vector = Vector(f"context-{name}", note)
        vector.context = pairs
        return vector, REQUEST

    yield context("17", "17 pairs", {f"n{n}": "v" for n in range(17)})
    yield context("total", "2,049 bytes in all", {"n" * 128: "v" * 1024, "m" * 128: "w" * 769})
    yield context("name-empty", "an empty name", {"": "v"})
    yield context("name-129", "a name of 129 bytes", {"n" * 129: "v"})
    yield context("name-129-utf8", "a name of 65 characters and 129 bytes", {"é" * 64 + "n": "v"})
    yield context("value-empty", "an empty value", {"n": ""})
    yield context("value-1025", "a value of 1,025 bytes", {"n": "v" * 1025})
    yield context("reserved", "a reserved name", {"claviger:dek": "00" * 16})
    yield context("reserved-new", "a reserved name that is not used", {"claviger:": "v"})


def files():
    found = [*text_form(), *outer(), *headers(), *recipients(), *opening(), *seals(), *contexts()]
    return [vector.file("bad", error) for vector, error in found]
