"""The vectors that open."""

from generate import Vector, cbor


def vectors():
    for length in (16, 24, 32, 48, 64):
        yield Vector(f"suite1-len-{length}", f"suite 1, a data key of {length} bytes", length=length)
    for length in (1, 15, 16, 17, 23, 24, 32, 255, 256, 4095, 4096):
        yield Vector(f"suite2-len-{length}", f"suite 2, {length} bytes of the caller's", length=length, suite=2)

    yield from contexts()
    yield from scopes()
    yield from providers()
    yield from recipients()
    yield from unusable()
    yield from seals()
    yield from sizes()


def contexts():
    def context(name, note, pairs, **more):
        return Vector(f"context-{name}", note, context=pairs, **more)

    yield context("empty", "no pair from the caller", {})
    yield context("many", "16 pairs", {f"name-{n}": f"value {n}" for n in range(16)})
    yield context("longest", "2,048 bytes in all", {"n" * 128: "v" * 1024, "m" * 128: "w" * 768})
    yield context("order", "shorter names first, then by bytes", {"b": "1", "aa": "2", "Z": "3", "a": "4", "ab": "5", "é": "6"})
    edge = {"x" * 23: "1", "y" * 24: "2", "a" * 24: "3", "z" * 22: "4"}
    yield context("order-head", "names around the length where the head grows to two bytes", edge)
    between = {"zzzzzzzzzzzz": "12", "zzzzzzzzzzzzzz": "14", "claviger.key": "like ours", "Claviger:key": "not ours"}
    yield context("order-ours", "names that stand between the gateway's own", between)
    yield context("unicode", "names and values beyond ASCII", {"Straße": "Zürich", "名前": "鍵", "🔑": "🗝️"}, suite=2)
    both = {"caf\u00e9": "composed", "cafe\u0301": "decomposed"}
    yield context("normalisation", "composed and decomposed forms are two names", both)
    yield context("controls", "NUL, line break, quotes and a byte order mark", {"\u0000": "\n", '"': "\\", "\ufeff": "\u007f"})
    yield context("value-longest", "a value of 1,024 bytes, a name of 128", {"é" * 64: "ü" * 512})
    yield context("case", "names differ in case", {"Name": "a", "name": "A"})


def scopes():
    yield Vector("scope", "a scope", scope="orders")
    yield Vector("scope-suite2", "a scope in suite 2", scope="orders", suite=2)
    yield Vector("scope-longest", "a scope of 1,024 bytes", scope="s" * 1024)
    yield Vector("scope-unicode", "a scope beyond ASCII", scope="Prüfung/鍵")
    yield Vector("scope-24", "a scope whose head has two bytes", scope="x" * 24, context={})


def providers():
    shapes = [
        ("aws", 2, 1, 184),
        ("aws-rsa", 2, 2, 384),
        ("gcp", 3, 1, 113),
        ("azure-oaep-256", 4, 2, 512),
        ("azure-oaep-1", 4, 8, 256),
        ("azure-kw", 4, 3, 40),
        ("kmip-gcm", 7, 5, 60),
        ("kmip-kw", 7, 3, 40),
        ("kmip-kwp", 7, 4, 40),
        ("pkcs11-gcm", 8, 5, 60),
        ("pkcs11-kwp", 8, 4, 40),
        ("pkcs11-oaep-longest", 8, 2, 1024),
    ]
    for name, provider, algorithm, length in shapes:
        vector = Vector(f"provider-{name}", f"provider {provider}, algorithm {algorithm}")
        yield vector.only(vector.other(provider, algorithm, length))
    for length in (16, 24, 48, 64):
        vector = Vector(f"provider-kw-len-{length}", f"key wrap of {length} bytes", length=length)
        yield vector.only(vector.other(7, 3, length + 8))
    vector = Vector("provider-vault", "Transit's own text as its ASCII bytes", suite=2)
    yield vector.only(vector.recipient(5, 1, b"vault:v3:" + b"QUJD" * 15))
    for name, iv, metadata in (("xks", 12, b""), ("xks-iv-16", 16, b""), ("xks-metadata", 12, bytes(range(20)))):
        vector = Vector(f"provider-{name}", "an external key store's answer in CBOR")
        parts = cbor([vector.random("iv", iv), vector.random("ct", 32), vector.random("tag", 16), metadata])
        yield vector.only(vector.recipient(6, 7, bytes(parts)))
    vector = Vector("provider-names-longest", "key id of 512, version of 128, ciphertext of 6,144 bytes")
    yield vector.only(vector.other(2, 1, 6144, key="k" * 512, version="v" * 128))
    vector = Vector("provider-names-empty", "empty key id and version")
    yield vector.only(vector.other(2, 1, 1, key="", version=""))


def recipients():
    vector = Vector("recipients-2", "two recipients")
    yield vector.only(vector.local(), vector.other(2, 1, 184))
    vector = Vector("recipients-8", "eight recipients, one of each provider", suite=2)
    others = [vector.other(p, a, n) for p, a, n in ((2, 1, 184), (3, 1, 113), (4, 2, 384), (5, 1, 90), (7, 5, 60), (8, 4, 40))]
    parts = bytes(cbor([vector.random("iv", 12), vector.random("ct", 32), vector.random("tag", 16), b""]))
    yield vector.only(vector.local(), *others, vector.recipient(6, 7, parts))
    vector = Vector("recipients-versions", "two versions of one key")
    yield vector.only(vector.local(version="1"), vector.local("second", version="2"))
    vector = Vector("recipients-keys", "two keys with one version")
    yield vector.only(vector.local(key="a"), vector.local("second", key="b"))
    vector = Vector("recipients-unsorted", "recipients stand in any order")
    yield vector.only(vector.other(7, 5, 60), vector.other(2, 1, 184), vector.local())
    vector = Vector("role-recovery", "a member and a recovery recipient")
    yield vector.only(vector.local(), vector.other(8, 2, 512, role=1))
    vector = Vector("role-recovery-only", "a recovery recipient alone", suite=2)
    yield vector.only(vector.local(role=1))


def unusable():
    cases = [
        ("provider-0", 0, 6, 72),
        ("provider-9", 9, 1, 100),
        ("provider-max", 2**64 - 1, 1, 100),
        ("algorithm-0", 1, 0, 72),
        ("algorithm-9", 1, 9, 72),
        ("algorithm-max", 1, 2**64 - 1, 72),
        ("empty", 2, 1, 0),
        ("oaep-short", 4, 2, 255),
        ("oaep-long", 4, 2, 1025),
        ("oaep-1-short", 4, 8, 255),
        ("kw", 7, 3, 41),
        ("kwp", 7, 4, 39),
        ("gcm", 7, 5, 59),
        ("xaes", 1, 6, 73),
        ("cbor", 6, 7, 66),
    ]
    for name, provider, algorithm, length in cases:
        vector = Vector(f"unusable-{name}", "a recipient that is passed over, beside one that is not")
        yield vector.only(vector.other(provider, algorithm, length, version="other"), vector.local(), usable=[False, True])
    vector = Vector("unusable-kek-length", "suite 2: the shape follows K, not the plaintext", suite=2, length=64)
    yield vector.only(vector.other(7, 3, 72), vector.local(), usable=[False, True])
    parts = {
        "iv": (13, 32, 16, 0),
        "ct": (12, 31, 16, 0),
        "tag": (12, 32, 15, 0),
        "metadata": (12, 32, 16, 21),
    }
    for name, lengths in parts.items():
        vector = Vector(f"unusable-cbor-{name}", f"algorithm 7, the {name} has another length")
        raw = bytes(cbor([vector.random(str(at), length) for at, length in enumerate(lengths)]))
        yield vector.only(vector.recipient(6, 7, raw), vector.local(), usable=[False, True])
    for name in ("trailing", "long-head", "three", "null"):
        vector = Vector(f"unusable-cbor-{name}", "algorithm 7, not the one encoding")
        items = [vector.random("iv", 12), vector.random("ct", 32), vector.random("tag", 16), b""]
        right = bytes(cbor(items))
        raw = {
            "trailing": right + b"\x00",
            "long-head": b"\x98\x04" + right[1:],
            "three": bytes(cbor(items[:3])),
            "null": bytes(cbor([*items[:3], None])),
        }[name]
        yield vector.only(vector.recipient(6, 7, raw), vector.local(), usable=[False, True])


def seals():
    for suite in (1, 2):
        vector = Vector(f"unsealed-suite{suite}", "no seal", suite=suite)
        vector.seal, vector.status = None, "unsealed"
        yield vector
    vector = Vector("seal-unknown-key", "sealed with a key that is not among those given")
    vector.seal_keys, vector.status = [vector.random("another", 40)], "unsealed"
    yield vector
    vector = Vector("seal-no-keys", "sealed, and no key is given")
    vector.seal_keys, vector.status = [], "unsealed"
    yield vector
    vector = Vector("seal-second-key", "several keys are given", suite=2)
    vector.seal_keys = [vector.random("older", 40), vector.seal_key, vector.random("newer", 40)]
    yield vector
    vector = Vector("seal-same-name", "two keys with one name, the second is the right one")
    vector.seal_keys = [vector.seal_key[:8] + vector.random("another", 32), vector.seal_key]
    yield vector


def sizes():
    for created in (0, 23, 24, 2**16, 2**32 - 1, 2**32, 253_402_300_799):
        yield Vector(f"created-{created}", f"made at {created}", created=created)
    vector = Vector("longest", "a binary form of exactly 16,384 bytes", suite=2, length=4096)
    yield longest(vector, 16_384)


def longest(vector, size):
    """Fills an envelope up to a size with a second and a third recipient."""
    vector.only(vector.local(), vector.other(2, 1, 6144), vector.other(3, 1, 5000))
    vector.recipients[2] = vector.other(3, 1, 5000 + size - len(vector.binary()))
    assert len(vector.binary()) == size
    return vector


def files():
    return [vector.file("good") for vector in vectors()]
