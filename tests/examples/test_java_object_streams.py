"""Objects are streams in the format of all clients, and calls are repeated as the gateway says."""

import os
import subprocess

import pytest
from proxy import Proxy

from claviger_client import files

EXAMPLE = "java-object-streams"
BUILD_BLOCKS = 1
JAVA = ["java", "-jar", "target/objects.jar"]
CHUNK = 16384
UNWRAP, GENERATE = "/v1/unwrap", "/v1/keys/objects/data-keys"


@pytest.fixture
def objects(example, claviger):
    """The example, with its key."""
    claviger.create_key("objects", "embedded")
    return example


def put(example, name, content, **variables):
    return example.run(*JAVA, "put", name, input=content, **variables)


def get(example, name, **variables):
    return example.run(*JAVA, "get", name, **variables)


def test_readme(example):
    assert "[key_disabled]" in example.readme()


@pytest.mark.parametrize("length", [0, CHUNK - 1, CHUNK, 3 * CHUNK + 5])
def test_all_clients_open_it_and_it_opens_theirs(objects, claviger, tmp_path, length):
    content, theirs, back = os.urandom(length // 2).hex().ljust(length, "."), tmp_path / "theirs", tmp_path / "back"
    assert put(objects, "ours", content) == (0, "")
    files.decrypt_file(claviger, objects.folder / "objects" / "ours", back, context={"object": "ours"})
    assert back.read_text() == content
    theirs.write_text(content)
    files.encrypt_file(claviger, "objects", theirs, objects.folder / "objects" / "theirs", context={"object": "theirs"})
    assert get(objects, "theirs") == (0, content)


def test_a_large_object_passes_through_a_small_heap(objects):
    script = "head -c 200M /dev/zero | java -Xmx32m -jar target/objects.jar put large && java -Xmx32m -jar target/objects.jar get large | cmp - <(head -c 200M /dev/zero)"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], cwd=objects.folder, env=objects.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_damaged_object_is_told(objects):
    content = "x" * (2 * CHUNK + 5)
    assert put(objects, "one", content) == (0, "") and put(objects, "two", content) == (0, "")
    path = objects.folder / "objects" / "one"
    whole, other = path.read_bytes(), (objects.folder / "objects" / "two").read_bytes()
    chunks = len(whole) - 2 * (CHUNK + 16) - 21
    length = int.from_bytes(whole[4:8], "big")
    for code, damaged in [
        ("file_unrecognized", b"x" + whole[1:]),
        ("file_version_unsupported", whole[:3] + b"\x02" + whole[4:]),
        ("file_damaged", whole[:4] + b"\xff" + whole[5:]),
        ("file_truncated", whole[:20]),
        ("file_header_mismatch", whole[: 8 + length] + bytes(24) + whole[8 + length + 24 :]),
        ("file_damaged", whole[:chunks] + whole[chunks + CHUNK + 16 :]),
        ("file_damaged", whole[:-1]),
        ("file_truncated", whole[:-21]),
        ("file_damaged", whole + b"x"),
        ("ciphertext_rejected", other),
    ]:
        path.write_bytes(damaged)
        exit_code, output = get(objects, "one")
        assert exit_code == 1 and output.endswith(f"[{code}]\n"), (code, output)
        assert content.startswith(output[: output.index("objects: ")]), "what was given out is authentic"


def test_a_call_is_repeated_as_the_gateway_says(objects, gateway):
    with Proxy(gateway.variables["CLAVIGER_ADDRESS"]) as proxy:
        proxy.instead = lambda _, path: proxy.problem(503, "circuit_open", retry_after=2) if path in (UNWRAP, GENERATE) and len(proxy.times(path)) == 1 else None
        assert put(objects, "one", "content", CLAVIGER_ADDRESS=proxy.address) == (0, "")
        assert get(objects, "one", CLAVIGER_ADDRESS=proxy.address) == (0, "content")
        for path in [GENERATE, UNWRAP]:
            first, second = proxy.times(path)
            assert 2 <= second - first


def test_a_call_is_repeated_five_times_at_most(objects, gateway):
    with Proxy(gateway.variables["CLAVIGER_ADDRESS"]) as proxy:
        proxy.instead = lambda _method, _path: proxy.problem(503, "a_code_of_a_later_release", retry_after=1)
        code, output = put(objects, "one", "content", CLAVIGER_ADDRESS=proxy.address)
        assert code == 2 and "[a_code_of_a_later_release]" in output and len(proxy.times(GENERATE)) == 5
        # Nothing is left of what was not stored.
        assert list((objects.folder / "objects").iterdir()) == []


@pytest.mark.parametrize(
    "answer, code",
    [
        (Proxy.problem(503, "circuit_open", retryable=False, retry_after=1), "circuit_open"),
        ((502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"), "unexpected_response"),
        ((200, {"Content-Type": "application/json"}, b'{"plaintext":'), "unexpected_response"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "unexpected_response"),
        (Proxy.problem(503, "circuit_open", retry_after=3600), "circuit_open"),
    ],
)
def test_what_does_not_help_is_not_repeated(objects, gateway, answer, code):
    with Proxy(gateway.variables["CLAVIGER_ADDRESS"]) as proxy:
        proxy.instead = lambda _method, _path: answer
        exit_code, output = put(objects, "one", "content", CLAVIGER_ADDRESS=proxy.address)
        assert exit_code == 2 and output.endswith(f"[{code}]\n") and len(proxy.times(GENERATE)) == 1, output


def test_what_is_missing_is_told(objects):
    for variables, expected in [
        ({"CLAVIGER_ADDRESS": "http://127.0.0.1:1"}, "[connection_lost]"),
        ({"CLAVIGER_TOKEN_FILE": "/nowhere"}, "/nowhere [token_unusable]"),
    ]:
        code, output = put(objects, "one", "content", **variables)
        assert code == 2 and output.startswith("objects: ") and output.endswith(f"{expected}\n")
    code, output = get(objects, "nobody")
    assert code == 2 and "nobody" in output
    assert put(objects, "../one", "content") == (2, "objects: put NAME, or get NAME\n")
