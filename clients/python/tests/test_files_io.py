"""Encrypted files: sources and targets of all kinds, files that are replaced, and memory."""

import array
import asyncio
import io
import os
import stat
import subprocess
import sys
import textwrap
import threading

import pytest
from conftest import ROOT
from files_support import ENCRYPTED, GOOD, Files, pattern, sliced, unwrapped
from stub import TOKEN

from claviger_client import AsyncClient, Client, files
from claviger_client.errors import FileError

CONTENT = pattern(300_000)


@pytest.fixture
def acme_files(acme):
    return Files(acme)


@pytest.fixture
def encrypted(acme_files):
    return b"".join(acme_files.encrypt_stream("orders", [CONTENT]))


class Reluctant(io.RawIOBase):
    """A file without a buffer that takes and gives only a part at a time."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.at = 0

    def read(self, size=-1):
        begin, self.at = self.at, self.at + min(size, 700)
        return bytes(self.data[begin : self.at])

    def write(self, data):
        self.data += data[:1000]
        return min(len(data), 1000)


@pytest.mark.parametrize(
    "source",
    [
        lambda: io.BytesIO(CONTENT),
        lambda: Reluctant(CONTENT),
        lambda: [CONTENT],
        lambda: (piece for piece in [b"", CONTENT[:5], b"", CONTENT[5:], b""]),
        lambda: [bytearray(CONTENT[:70_000]), memoryview(CONTENT)[70_000:]],
        lambda: [memoryview(array.array("I", CONTENT))],
    ],
)
def test_sources(acme_files, source):
    data = b"".join(acme_files.encrypt_stream("orders", source()))
    assert b"".join(acme_files.decrypt_stream([data])) == CONTENT


def test_a_source_may_use_its_buffer_again(acme_files):
    def source():
        buffer = bytearray(1000)
        for begin in range(0, len(CONTENT), 1000):
            buffer[:] = CONTENT[begin : begin + 1000]
            yield buffer
            buffer.clear()

    data = b"".join(acme_files.encrypt_stream("orders", source()))
    assert b"".join(acme_files.decrypt_stream([data])) == CONTENT


def test_a_file_that_takes_a_part_of_what_is_written(acme_files, encrypted):
    target = Reluctant()
    acme_files.decrypt(Reluctant(encrypted), target)
    assert target.data == CONTENT


@pytest.mark.parametrize("source", ["report.pdf", io.StringIO("text"), ["text"], b"bytes", [None]])
def test_sources_that_are_none(acme_files, source):
    for call in (lambda: acme_files.encrypt_stream("orders", source), lambda: acme_files.decrypt_stream(source)):
        with pytest.raises((TypeError, BlockingIOError), match="the source"):
            list(call())


def test_files_that_block_not(acme_files, encrypted):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as target:
        with pytest.raises(BlockingIOError, match="source"):
            acme_files.decrypt(source, io.BytesIO())
        with pytest.raises(BlockingIOError, match="target"):
            acme_files.decrypt([encrypted], target)


def test_a_stream_gives_what_is_there(acme_files, encrypted):
    """The plaintext of a chunk is not held back until more of the file arrives."""
    given = []

    def source():
        for piece in sliced(encrypted, 16_400):
            given.append(piece)
            yield piece

    pieces = acme_files.decrypt_stream(source())
    assert next(iter(pieces)) == CONTENT[:16_384]
    assert len(given) <= 3


def test_files(acme_files, tmp_path):
    plain, encrypted, again = (tmp_path / name for name in ("plain", "encrypted", "again"))
    plain.write_bytes(CONTENT)
    acme_files.encrypt_file("orders", plain, str(encrypted), context={"a": "b"})
    again.write_bytes(b"old")
    again.chmod(0o640)
    acme_files.decrypt_file(str(encrypted), os.fsencode(again), context={"a": "b"}, key="orders")
    assert again.read_bytes() == CONTENT
    assert stat.S_IMODE(again.stat().st_mode) == 0o640
    assert stat.S_IMODE(encrypted.stat().st_mode) == 0o600
    # In place, through a link, which stays one.
    link = tmp_path / "link"
    link.symlink_to("again")
    acme_files.encrypt_file("orders", link, link)
    assert link.is_symlink()
    assert again.read_bytes()[:4] == b"CLF\x01"
    acme_files.decrypt_file(link, link)
    assert again.read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "encrypted", "link", "plain"]


@pytest.mark.parametrize("cut", [0, 3, 200, 400, 70_000, -1, -16_400])
def test_a_bad_file_leaves_the_target_as_it_was(acme_files, encrypted, tmp_path, cut):
    source, target = tmp_path / "encrypted", tmp_path / "target"
    target.write_bytes(b"old")
    source.write_bytes(encrypted[:cut])
    with pytest.raises(FileError):
        acme_files.decrypt_file(source, target)
    assert target.read_bytes() == b"old"
    with pytest.raises(FileError):
        acme_files.decrypt_file(source, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encrypted", "target"]


def test_a_target_is_not_there_before_the_end(acme_files, encrypted, tmp_path, monkeypatch):
    source, target = tmp_path / "encrypted", tmp_path / "target"
    source.write_bytes(encrypted)
    seen, threads = [], set()
    fsync = os.fsync

    def watched(descriptor):
        seen.append((target.exists(), [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob(".claviger-*.part")]))
        threads.add(threading.current_thread() is threading.main_thread())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    acme_files.decrypt_file(source, target)
    # The content is synced while the file has no name of its own, and then the folder.
    assert seen == [(False, [0o600]), (True, [])]
    # It can take seconds, for which an event loop must not stand still.
    assert threads == {acme_files.kind is Client}


def test_targets_that_cannot_be_replaced(acme_files, tmp_path):
    (tmp_path / "plain").write_bytes(b"content")
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="not a regular file"):
            acme_files.encrypt_file("orders", tmp_path / "plain", target)
    with pytest.raises(FileNotFoundError):
        acme_files.encrypt_file("orders", tmp_path / "plain", tmp_path / "no-folder" / "target")
    with pytest.raises(FileNotFoundError):
        acme_files.encrypt_file("orders", tmp_path / "missing", tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "plain"]


def test_a_target_that_is_full(acme_files, encrypted):
    with open("/dev/full", "wb", buffering=0) as target, pytest.raises(OSError, match="No space"):
        acme_files.decrypt([encrypted], target)


def test_nothing_is_done_before_the_first_piece(stub, connect):
    stub.answers = [unwrapped(bytes.fromhex(GOOD["empty"]["k"]))]
    bound = Files(connect(stub.address, TOKEN))
    for pieces in (bound.encrypt_stream("orders", [b""]), bound.decrypt_stream([ENCRYPTED["empty"]])):
        pieces.close()
    assert stub.requests == []
    assert list(bound.decrypt_stream([ENCRYPTED["empty"]])) == []
    assert len(stub.requests) == 1


def run_async(gateway, program):
    async def main():
        async with AsyncClient(f"http://{gateway.address}", token_file=gateway.token_file, tenant="acme") as claviger:
            return await program(claviger)

    return asyncio.run(main())


def test_asynchronous_sources_and_targets(gateway):
    class File:
        """As those of aiofiles and anyio."""

        def __init__(self, data=b""):
            self.file = io.BytesIO(data)

        async def read(self, size):
            await asyncio.sleep(0)
            return self.file.read(size)

        async def write(self, data):
            await asyncio.sleep(0)
            return self.file.write(data)

    async def iterated():
        for piece in [b"", *sliced(CONTENT, 7777), b""]:
            yield piece

    def piled_up(writer, sizes):
        for piece in sliced(CONTENT * 30, 70_000):
            sizes.append(writer.transport.get_write_buffer_size())
            yield piece

    async def program(claviger):
        target, back = File(), File()
        await files.encrypt(claviger, "orders", iterated(), target)
        await files.decrypt(claviger, File(target.file.getvalue()), back)
        assert back.file.getvalue() == CONTENT
        received, sizes = [], []

        async def serve(reader, writer):
            received.append(b"".join([piece async for piece in files.decrypt_stream(claviger, reader)]))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await files.encrypt(claviger, "orders", piled_up(writer, sizes), writer)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert received == [CONTENT * 30]
        # What the other side has not taken is waited for.
        assert max(sizes) < 500_000

    run_async(gateway, program)


@pytest.mark.parametrize("call", ["encrypt_file", "decrypt_file"])
def test_what_is_cancelled_leaves_nothing(gateway, tmp_path, call):
    plain, source, target = (tmp_path / name for name in ("plain", "encrypted", "target"))

    async def program(claviger):
        # Sparse, and long enough to be cancelled in the middle.
        with open(plain, "wb") as file:
            file.truncate(1 << 27 if call == "decrypt_file" else 1 << 36)
        if call == "decrypt_file":
            await files.encrypt_file(claviger, "orders", plain, source)
        arguments = ("orders", plain, target) if call == "encrypt_file" else (source, target)
        task = asyncio.create_task(getattr(files, call)(claviger, *arguments))
        while not any(part.stat().st_size for part in tmp_path.glob(".claviger-*.part")):
            assert not task.done(), "it is cancelled before its end"
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(gateway, program)
    assert {path.name for path in tmp_path.iterdir()} <= {"plain", "encrypted"}
    # pytest keeps the folder.
    source.unlink(missing_ok=True)


def test_a_read_that_is_cancelled_ends_first(gateway):
    """Otherwise a thread would still use a file that its owner closes."""
    started, go_on = threading.Event(), threading.Event()

    class Slow:
        def read(self, size):
            started.set()
            assert go_on.wait(30)
            return b""

    async def program(claviger):
        task = asyncio.create_task(files.encrypt(claviger, "orders", Slow(), io.BytesIO()))
        await asyncio.to_thread(started.wait)
        task.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        early = task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not early

    run_async(gateway, program)


def test_coroutines_encrypt_at_once(gateway, tmp_path):
    async def program(claviger):
        for number in range(20):
            (tmp_path / f"{number}").write_bytes(pattern(number * 5000))
        await asyncio.gather(*(files.encrypt_file(claviger, "orders", tmp_path / f"{n}", tmp_path / f"{n}.clv") for n in range(20)))
        await asyncio.gather(*(files.decrypt_file(claviger, tmp_path / f"{n}.clv", tmp_path / f"{n}.again") for n in range(20)))

    run_async(gateway, program)
    assert [(tmp_path / f"{n}.again").read_bytes() for n in range(20)] == [pattern(n * 5000) for n in range(20)]


MEMORY = """
    import asyncio, hashlib, resource, sys

    # For all of the process, libraries and stacks included.
    kind, limit, pieces = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))

    from claviger_client import AsyncClient, Client, files

    PIECE = bytes(range(256)) * 4096
    class Checked:
        taken, digest = 0, hashlib.sha256()

        def write(self, data):
            self.taken += len(data)
            self.digest.update(data)

    def source():
        for _ in range(pieces):
            yield PIECE

    async def run():
        async with AsyncClient.from_env() as claviger:
            await files.decrypt(claviger, files.encrypt_stream(claviger, "orders", source()), target)

    target = Checked()
    if kind == "async":
        asyncio.run(run())
    else:
        with Client.from_env() as claviger:
            files.decrypt(claviger, files.encrypt_stream(claviger, "orders", source()), target)
    expected = hashlib.sha256()
    for piece in source():
        expected.update(piece)
    assert target.digest.digest() == expected.digest()
    print(target.taken >> 20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    # The limit is one: what is not in constant memory would not have fitted.
    try:
        held = [PIECE + b"x" for _ in range(limit)]
        sys.exit("there is no limit")
    except MemoryError:
        pass
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_memory_is_constant(gateway, kind):
    """600 MiB through a process that may have 256 MiB of address space."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAVIGER_")}
    environment |= {
        "CLAVIGER_ADDRESS": f"http://{gateway.address}",
        "CLAVIGER_TOKEN_FILE": str(gateway.token_file),
        "CLAVIGER_TENANT": "acme",
        "PYTHONPATH": str(ROOT / "clients" / "python" / "src"),
        # Each thread's arena reserves 64 MiB of addresses.
        "MALLOC_ARENA_MAX": "1",
    }
    program = [sys.executable, "-c", textwrap.dedent(MEMORY), kind, "256", "600"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    taken, resident = map(int, done.stdout.split())
    assert taken == 600
    print(f"{kind}: {resident} MiB resident at most")


@pytest.mark.parametrize("present", ["nothing", "an older release"])
def test_the_missing_package_is_named(present):
    """Without cryptography the rest of the client works."""
    hidden = "cryptography" if present == "nothing" else "cryptography.cobblestone"
    program = f"""
        import sys
        sys.modules[{hidden!r}] = None
        import claviger_client
        assert not any(name.startswith("cryptography") and sys.modules[name] for name in sys.modules)
        try:
            from claviger_client import files
        except ImportError as error:
            print(error)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT / "clients" / "python" / "src")}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True)
    assert 'pip install "claviger-client[files]"' in done.stdout, done.stdout + done.stderr
