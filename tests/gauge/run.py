#!/usr/bin/env python3
"""Counts what one request costs the gateway, and compares with figures.toml:
python3 run.py BINARY [--write] [--keep FOLDER]

Instructions and heap allocations do not depend on how busy the machine is, so a change of a few
per cent shows. A figure that differs from the committed one by more than 3 %, in either
direction, fails: commit the new one with the reason.

Four requests are counted, on one connection that is kept, one after the other:

- cached_unwrap: an unwrap whose data key is in the cache
- missed_unwrap: an unwrap whose data key is not, so that the embedded provider is called
- batch_item: a cached unwrap as one item of a batch of 100 (the batch's cost, divided by 100)
- denial: an unwrap with a token that may not unwrap

From the request's first byte to the answer's last, in all threads: HTTP/1.1 without TLS, the
record, its sync to the disk, the store. It is the release build, with one worker thread, under
callgrind, with `gauge.c` preloaded:

- Instructions are those of user space. callgrind runs one thread at a time on a CPU of its own
  making, which has AVX2 and nothing later: the same code runs on every x86-64 CPU with AVX2. It
  has no instructions for SHA-256 either, so hashing weighs more than on a newer CPU.
- Allocations are blocks of the gateway's heap, counted by the calls of mimalloc's functions, and
  blocks that libraries in C take from the C library's.
- The gateway's clock stands still while requests are counted, so that what it does by the clock
  is not among them.
- One process differs from the next by up to 3 % in a denial, with the places of its memory and the
  seeds of its hashes. So the figure is the least of three.

`--write` stores what was counted as the new figures. `--keep FOLDER` leaves callgrind's files
there, one for each kind of request, to be read with callgrind_annotate.
"""

import argparse
import contextlib
import itertools
import json
import mmap
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from gateway import Gateway  # noqa: E402

FIGURES = HERE / "figures.toml"
# How far a figure may be from the committed one.
TOLERANCE = 0.03
# What the gateway's allocator calls for a block.
ALLOCATORS = ("mi_malloc_aligned", "mi_zalloc_aligned")
TENANT = "acme"
CONTEXT = {"table": "orders"}
# Each kind of request is counted in rounds of so many requests, after two that are not counted. The
# figure is the median of the rounds. Some requests come before each round.
ROUNDS, WARM, REQUESTS, BATCHES, DUE = 15, 2, 20, 2, 3
# On so many gateways, one after the other.
GATEWAYS = 3
# The items of a batch.
ITEMS = 100

# How long a start under callgrind may take, and the writing of one of its files, in seconds.
PATIENCE = 120


class Connection:
    """A connection that is kept, for requests whose bytes are made before."""

    def __init__(self, address):
        self.host = address
        self.socket = None
        self.rest = b""

    def open(self):
        """To be called right before the first request: the gateway closes what sends none for ten seconds."""
        host, port = self.host.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)

    def request(self, path, body, token):
        """The bytes of a request."""
        body = json.dumps(body, separators=(",", ":")).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: {self.host}\r\nauthorization: Bearer {token}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def send(self, request, status):
        """Sends a request and reads its answer, which must have this status; returns the body."""
        self.socket.sendall(request)
        head, _, self.rest = self.read(lambda got: b"\r\n\r\n" in got).partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        body = self.read(lambda got: len(got) >= length)
        body, self.rest = body[:length], body[length:]
        if int(head.split()[1]) != status:
            raise SystemExit(f"gauge: {head.decode()}\n{body.decode()}")
        return body

    def read(self, whole):
        while not whole(self.rest):
            got = self.socket.recv(1 << 20)
            if not got:
                raise SystemExit("gauge: the gateway closed the connection")
            self.rest += got
        return self.rest


class Counter:
    """Reads what callgrind and `gauge.c` count in the gateway's process."""

    kinds = ("instructions", "allocations")

    def __init__(self, folder, keep):
        self.keep = keep
        self.out = folder / "callgrind.out"
        self.dumps = 0
        library, shared = folder / "gauge.so", folder / "shared"
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, HERE / "gauge.c"], check=True)
        shared.write_bytes(bytes(16))
        with open(shared, "r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 16)
        self.prefix = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out}", f"--log-file={folder / 'valgrind.log'}")
        # With one worker, no idle worker looks for something to do.
        self.variables = {"LD_PRELOAD": str(library), "GAUGE_SHARED": str(shared), "TOKIO_WORKER_THREADS": "1"}

    @contextlib.contextmanager
    def round(self, gateway, name):
        """What runs inside is counted, while the gateway's clock stands still; gives a list that gets a
        number of each kind at the end."""
        counts = []
        self.dump(gateway)
        struct.pack_into("=q", self.shared, 8, time.monotonic_ns())
        (before,) = struct.unpack_from("=Q", self.shared)
        yield counts
        (after,) = struct.unpack_from("=Q", self.shared)
        written = self.dump(gateway)
        struct.pack_into("=q", self.shared, 8, 0)
        profile = written.read_text()
        counts += [int(re.search(r"^totals: (\d+)", profile, re.MULTILINE)[1])]
        counts += [calls(profile, ALLOCATORS) + after - before]
        if self.keep:
            shutil.copy(written, self.keep / f"callgrind.out.{name}")

    def dump(self, gateway):
        """Has callgrind write its counters to a file and set them to zero."""
        self.dumps += 1
        path = self.out.with_name(f"{self.out.name}.{self.dumps}")
        gateway.process.send_signal(signal.SIGUSR2)
        until = time.monotonic() + PATIENCE
        while not (path.exists() and re.search(r"^totals: \d+\n", path.read_text(), re.MULTILINE)):
            if time.monotonic() > until:
                raise SystemExit(f"gauge: callgrind did not write {path.name}")
            time.sleep(0.002)
        return path


def calls(profile, functions):
    """How often these functions were called, by callgrind's file. It names a function at its first
    occurrence, and gives only its number afterwards."""
    numbers = {}
    total = 0
    for function, name, times in re.findall(r"^c?fn=\((\d+)\)(?: (.+))?(?:\ncalls=(\d+) )?", profile, re.MULTILINE):
        if name:
            numbers[function] = name
        if times and numbers[function] in functions:
            total += int(times)
    if not any(name in functions for name in numbers.values()):
        raise SystemExit(f"gauge: the gateway calls none of {', '.join(functions)}; was its binary stripped?")
    return total


def least(binary, folder, keep):
    """The least of what each of some gateways counts, as `count` gives it."""
    each = []
    for number in range(GATEWAYS):
        (own := folder / str(number)).mkdir()
        each.append(count(binary, Counter(own, keep)))
    return {name: {kind: min(counted[name][kind] for counted in each) for kind in Counter.kinds} for name in each[0]}


def count(binary, counter):
    """Counts the four requests on a gateway of its own: {request: {kind: number for one}}."""
    with Gateway(binary, counter.variables, prefix=counter.prefix, patience=PATIENCE) as gateway:
        connection = Connection(gateway.address)
        counted = {name: median(gateway, connection, counter, name, *kind) for name, *kind in workload(gateway, connection)}
        connection.socket.close()
        return counted


def median(gateway, connection, counter, name, status, rounds, units):
    """The cost of one kind of request: its median over the rounds, divided by the units of a round."""
    counts = []
    for requests in rounds:
        # What became due while the clock stood still is done beside these.
        for request in requests[:DUE]:
            connection.send(request, status)
        with counter.round(gateway, name) as counted:
            for request in requests[DUE:]:
                body = connection.send(request, status)
        check(name, body)
        counts.append(counted)
    return {kind: statistics.median(numbers) / units for kind, numbers in zip(counter.kinds, zip(*counts[WARM:]))}


def workload(gateway, connection):
    """Makes what is needed, and yields for each kind of request: its name, the status of its answers,
    the requests of each round, and in how many parts a round's cost is divided.
    """
    gateway.with_tenant(TENANT, "orders")
    unwraps, rewraps = (token(gateway, operation) for operation in ("Unwrap", "Rewrap"))
    rounds = WARM + ROUNDS
    cached, missed = made(gateway, ITEMS), made(gateway, rounds * (DUE + REQUESTS))
    connection.open()

    request = connection.request("/v1/keys/orders/unwrap", cached[0], unwraps)
    yield "cached_unwrap", 200, [[request] * (DUE + REQUESTS)] * rounds, REQUESTS
    requests = iter([connection.request("/v1/keys/orders/unwrap", each, unwraps) for each in missed])
    yield "missed_unwrap", 200, [list(itertools.islice(requests, DUE + REQUESTS)) for _ in range(rounds)], REQUESTS
    request = connection.request("/v1/batch/unwrap", {"items": cached}, unwraps)
    yield "batch_item", 200, [[request] * (DUE + BATCHES)] * rounds, BATCHES * ITEMS
    request = connection.request("/v1/keys/orders/unwrap", cached[0], rewraps)
    yield "denial", 403, [[request] * (DUE + REQUESTS)] * rounds, REQUESTS


def made(gateway, how_many):
    """What unwraps as many new data keys."""
    items = {"items": [{"key": "orders", "context": CONTEXT, "plaintext": False}] * ITEMS}
    wrapped = []
    while len(wrapped) < how_many:
        answer = gateway.call("POST", "/v1/batch/data-keys", items, tenant=TENANT)
        wrapped += [item["wrapped"] for item in answer["items"]]
    return [{"wrapped": each, "context": CONTEXT} for each in wrapped[:how_many]]


def token(gateway, operation):
    """A token of a principal of its own that may do one thing."""
    gateway.call("POST", "/v1/principals", {"name": operation.lower()}, tenant=TENANT)
    body = {"operations": [operation]}
    return gateway.call("POST", f"/v1/principals/{operation.lower()}/tokens", body, tenant=TENANT)["token"]


def check(name, body):
    """Stops unless the last answer is what was meant to be counted."""
    answer = json.loads(body)
    fine = {
        "cached_unwrap": lambda: answer["cached"] is True,
        "missed_unwrap": lambda: answer["cached"] is False,
        "batch_item": lambda: all(item.get("plaintext") for item in answer["items"]),
        "denial": lambda: answer["code"] == "permission_denied",
    }
    if not fine[name]():
        raise SystemExit(f"gauge: {name} was answered by {body.decode()}")


def version(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description="Counts what one request costs the gateway.")
    parser.add_argument("binary")
    parser.add_argument("--write", action="store_true", help="store the figures that were counted")
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="leave callgrind's files in this folder")
    arguments = parser.parse_args()
    for program, package in {"valgrind": "valgrind", "cc": "build-essential"}.items():
        if shutil.which(program) is None:
            raise SystemExit(f"gauge: '{program}' is missing: apt-get install {package}")
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory(prefix="claviger-gauge-") as folder:
        counted = least(arguments.binary, pathlib.Path(folder), arguments.keep)

    machine = platform.machine()
    made_with = {"rustc": version("rustc", "--version"), "valgrind": version("valgrind", "--version"), "libc": " ".join(platform.libc_ver())}
    if arguments.write:
        write(machine, made_with, counted)
        print(f"written: {FIGURES}")
    sys.exit(compare(machine, made_with, counted))


def write(machine, made_with, counted):
    """Stores the figures; those of other machines stay."""
    figures = tomllib.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures[machine] = {"made_with": made_with} | {
        name: {kind: round(number, 1) if number < 1000 else round(number) for kind, number in kinds.items()} for name, kinds in counted.items()
    }
    lines = ["# What one request costs, as tests/gauge/run.py counts it. Written by `--write`."]
    for machine, tables in figures.items():
        for table, values in tables.items():
            lines += ["", f"[{machine}.{table}]"] + [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    FIGURES.write_text("\n".join(lines) + "\n")


def compare(machine, made_with, counted):
    """Prints each figure beside the committed one; returns the exit code."""
    figures = tomllib.loads(FIGURES.read_text()).get(machine) if FIGURES.exists() else None
    if figures is None:
        raise SystemExit(f"gauge: {FIGURES.name} has no figures for {machine}; store some with --write")
    passed = failed = 0
    print(f"{'for one':<16}{'':<14}{'counted':>10}{'committed':>12}{'':>9}")
    for name, kinds in counted.items():
        for kind, number in kinds.items():
            committed = figures[name][kind]
            difference = number / committed - 1
            holds = abs(difference) <= TOLERANCE
            passed, failed = passed + holds, failed + (not holds)
            print(f"{name:<16}{kind:<14}{number:>10,.1f}{committed:>12,.1f}{difference:>+8.1%}{'' if holds else '  FAILED'}")
    if failed:
        print(f"A figure may differ by {TOLERANCE:.0%}. If it is meant to: tests/gauge/run.py BINARY --write, and say why in the commit.")
        for what, was in figures["made_with"].items():
            if was != made_with[what]:
                print(f"The committed figures were made with {was}, these with {made_with[what]}.")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
