"""Encrypted files: the vectors, the real gateway, and the reader that was written from the page."""

import io
import os
import subprocess
import traceback

import pytest
from files_support import BAD, ENCRYPTED, GOOD, Files, envelope_of, joined, load, pattern, reader, sliced, unwrapped
from stub import TOKEN, answer

from claviger_client import (
    CiphertextRejectedError,
    ClavigerError,
    InvalidEnvelopeError,
    KeyUnusableError,
    NotFoundError,
    UnexpectedResponseError,
)
from claviger_client.errors import (
    FileDamagedError,
    FileError,
    FileHeaderMismatchError,
    FileTruncatedError,
    FileUnrecognizedError,
    FileVersionError,
)

CONTEXT = {"table": "orders"}
CLASSES = {
    "file_unrecognized": FileUnrecognizedError,
    "file_version_unsupported": FileVersionError,
    "file_truncated": FileTruncatedError,
    "file_header_mismatch": FileHeaderMismatchError,
    "file_damaged": FileDamagedError,
}


@pytest.fixture
def acme_files(acme):
    return Files(acme)


@pytest.fixture
def stub_files(connect, stub):
    return Files(connect(stub.address, TOKEN))


@pytest.mark.parametrize("name", GOOD)
def test_good_vectors_open(stub_files, stub, name):
    vector, data = GOOD[name], ENCRYPTED[name]
    stub.answers = [unwrapped(bytes.fromhex(vector["k"]))]
    sources = [io.BytesIO(data), [data], sliced(data, 1000), sliced(data, 16_400), sliced(data, 1)]
    for source in sources:
        content = b"".join(stub_files.decrypt_stream(source, context=CONTEXT))
        assert content == pattern(vector["plaintext_length"])
    assert [request.json for request in stub.requests] == [{"wrapped": envelope_of(data), "context": CONTEXT}] * len(sources)


@pytest.mark.parametrize("name", BAD)
def test_bad_vectors_are_refused(stub_files, stub, name):
    vector = BAD[name]
    data = joined(vector["pieces"])
    stub.answers = [unwrapped(bytes.fromhex(vector["k"]))]
    # In small parts everything that is authenticated comes out, in large ones less of it.
    for source, all_of_it in ((sliced(data, 1000), True), (io.BytesIO(data), False)):
        target = io.BytesIO()
        with pytest.raises(CLASSES[vector["error"]]) as raised:
            stub_files.decrypt(source, target)
        error = raised.value
        assert (error.code, error.retryable, error.status) == (vector["error"], False, None)
        assert error.what_to_do
        content = target.getvalue()
        assert content == pattern(vector["authenticated_length"])[: len(content)]
        assert not all_of_it or len(content) == vector["authenticated_length"]
    # A file whose header is not whole or is too large does not cost a call.
    header_is_whole = len(data) >= 64 and data[:4] == b"CLF\x01" and len(data) >= 64 + int.from_bytes(data[4:8], "big")
    assert len(stub.requests) == 2 * header_is_whole


def test_there_are_vectors_of_each_error():
    assert {vector["error"] for vector in load("bad").values()} == set(CLASSES)
    assert set(CLASSES.values()) == set(FileError.__subclasses__())


def test_a_large_length_is_refused_before_more_is_read(stub_files):
    class Source:
        taken = 0

        def read(self, size):
            self.taken += size
            assert self.taken <= 8
            return (b"CLF\x01\x00\x00\x40\x01" + bytes(100))[self.taken - size : self.taken]

    with pytest.raises(FileDamagedError, match="16385 bytes"):
        stub_files.decrypt(Source(), io.BytesIO())


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 40_960, 5_000_000])
def test_files_go_round(acme, acme_files, size):
    content, target, back = pattern(size), io.BytesIO(), io.BytesIO()
    acme_files.encrypt("orders", io.BytesIO(content), target, context=CONTEXT)
    data = target.getvalue()
    assert len(data) == 8 + int.from_bytes(data[4:8], "big") + 56 + size + 16 * (size // 16_384 + 1)
    acme_files.decrypt(io.BytesIO(data), back, context=CONTEXT)
    assert back.getvalue() == content
    # The other reader opens it with the key that the gateway gives.
    k = acme.unwrap(envelope_of(data), context=CONTEXT).plaintext.expose()
    assert b"".join(reader().plaintext(k, io.BytesIO(data))) == content


def test_the_command_line_opens_it_and_the_other_way_round(acme_files, gateway, tmp_path):
    """Every client has this test, so that each of them opens the files of the others."""
    content = pattern(50_000)
    plain, encrypted, again = (tmp_path / name for name in ("plain", "encrypted", "again"))
    variables = {"CLAVIGER_ADDRESS": f"http://{gateway.address}", "CLAVIGER_TOKEN_FILE": str(gateway.token_file), "CLAVIGER_TENANT": "acme"}

    def claviger(*words):
        subprocess.run([gateway.binary, *words, "--context", "table=orders"], check=True, capture_output=True, env=os.environ | variables)

    encrypted.write_bytes(b"".join(acme_files.encrypt_stream("orders", [content], context=CONTEXT)))
    claviger("decrypt", "--in", encrypted, "--out", plain)
    assert plain.read_bytes() == content
    claviger("encrypt", "orders", "--in", plain, "--out", again)
    assert b"".join(acme_files.decrypt_stream([again.read_bytes()], context=CONTEXT)) == content


def test_each_file_has_its_own_key_and_salt(acme_files):
    first, second = (b"".join(acme_files.encrypt_stream("orders", [b"content"])) for _ in range(2))
    end = 8 + int.from_bytes(first[4:8], "big")
    assert envelope_of(first) != envelope_of(second)
    assert first[end : end + 24] != second[end : end + 24]
    with pytest.raises(FileHeaderMismatchError):
        b"".join(acme_files.decrypt_stream([first[:end] + second[end:]]))


def test_another_context_or_key(acme, acme_files):
    acme.create_key("other-files", "embedded", idempotency_key="other-files")
    data = b"".join(acme_files.encrypt_stream("orders", [b"content"], context=CONTEXT))
    for arguments in ({"context": {"table": "invoices"}}, {}, {"context": CONTEXT, "key": "other-files"}):
        with pytest.raises(CiphertextRejectedError):
            b"".join(acme_files.decrypt_stream([data], **arguments))
    assert b"".join(acme_files.decrypt_stream([data], context=CONTEXT, key="orders")) == b"content"


def test_a_disabled_key(acme, acme_files, tmp_path):
    acme.create_key("disabled-files", "embedded", idempotency_key="disabled-files")
    acme.enable_key("disabled-files")
    (tmp_path / "plain").write_bytes(b"content")
    acme_files.encrypt_file("disabled-files", tmp_path / "plain", tmp_path / "encrypted")
    acme.disable_key("disabled-files")
    with pytest.raises(KeyUnusableError):
        acme_files.decrypt_file(tmp_path / "encrypted", tmp_path / "again")
    with pytest.raises(KeyUnusableError):
        acme_files.encrypt_file("disabled-files", tmp_path / "plain", tmp_path / "encrypted-2")
    with pytest.raises(NotFoundError):
        acme_files.encrypt_file("no-such-key", tmp_path / "plain", tmp_path / "encrypted-2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encrypted", "plain"]


def test_an_envelope_that_is_none(acme_files):
    data = b"".join(acme_files.encrypt_stream("orders", [b"content"]))
    with pytest.raises(InvalidEnvelopeError):
        b"".join(acme_files.decrypt_stream([data[:12] + bytes(1) + data[13:]]))


def test_a_rewrapped_key_has_no_place_in_the_file(acme, acme_files):
    data = b"".join(acme_files.encrypt_stream("orders", [b"content"]))
    acme.create_key("rewrapped-files", "embedded", idempotency_key="rewrapped-files")
    rewrapped = acme.rewrap("orders", envelope_of(data), to="rewrapped-files").wrapped
    envelope = reader().base64.urlsafe_b64decode(rewrapped[5:] + "==")
    end = 8 + int.from_bytes(data[4:8], "big")
    with pytest.raises(FileHeaderMismatchError):
        b"".join(acme_files.decrypt_stream([data[:4] + len(envelope).to_bytes(4, "big") + envelope + data[end:]]))
    # But its K opens the file, as the page says.
    k = acme.unwrap(rewrapped).plaintext.expose()
    assert b"".join(reader().plaintext(k, io.BytesIO(data))) == b"content"


@pytest.mark.parametrize(
    "changes",
    [{"plaintext": None}, {"plaintext": "c2hvcnQ="}, {"wrapped": "clv2.AAAA"}, {"wrapped": "clv1.AAAA"}, {"wrapped": "clv1.Q0xWAQ=="}],
)
def test_a_data_key_that_cannot_be_used(stub_files, stub, changes):
    good = {"key": "orders", "version": 1, "wrapped": envelope_of(ENCRYPTED["empty"]), "plaintext": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}
    stub.answers = [answer(200, good)]
    assert b"".join(stub_files.encrypt_stream("orders", [])).startswith(ENCRYPTED["empty"][:100])
    assert stub.requests[0].json == {"bytes": 32}
    stub.answers = [answer(200, good | changes)]
    with pytest.raises(UnexpectedResponseError):
        b"".join(stub_files.encrypt_stream("orders", []))


def test_a_traceback_with_local_variables_shows_no_plaintext(stub_files, stub):
    """Not the data key, and not the content: neither where a file is damaged nor where its target fails."""

    class Full:
        def __init__(self, room):
            self.room = room

        def write(self, data):
            if self.room == 0:
                raise OSError(28, "No space left on device")
            self.room -= 1

    vector, data = GOOD["40-kib"], ENCRYPTED["40-kib"]
    k = bytes.fromhex(vector["k"])
    stub.answers = [unwrapped(k)]
    content = pattern(40_960)
    secrets = [form for secret in (k, content[:32], content[16_384:16_400], content[-16:]) for form in (repr(secret)[2:-1], secret.hex())]
    generated = {"key": "orders", "version": 1, "wrapped": envelope_of(data), "plaintext": unwrapped_text(k)}
    for call in (
        lambda: stub_files.decrypt(sliced(data[:-1], 1000), io.BytesIO()),
        lambda: stub_files.decrypt(sliced(data, 1000), Full(1)),
        lambda: stub_files.decrypt([data], Full(0)),
        lambda: stub_files.encrypt("orders", iter(sliced(content, 20_000)), Full(2)),
        lambda: stub_files.encrypt("orders", iter([content, "text"]), Full(9)),
    ):
        stub.answers = [lambda request: answer(200, generated) if "data-keys" in request.target else unwrapped(k)]
        with pytest.raises((ClavigerError, OSError, TypeError)) as raised:
            call()
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None
        shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
        # The first frames are this test's own, and the last one may be.
        shown = "".join(part for part in shown.split('  File "') if "claviger_client/" in part.splitlines()[0])
        assert "_file_io" in shown
        assert not [line for line in shown.splitlines() if any(secret in line for secret in secrets)]


def unwrapped_text(k):
    return unwrapped(k).split(b'"plaintext": "')[1].split(b'"')[0].decode()
