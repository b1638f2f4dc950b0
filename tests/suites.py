#!/usr/bin/env python3
"""Runs every Rust test of the workspace, or some suites:
python3 suites.py [--jobs N] [--progress-fd N] [--table FILE] [SUITE...]

`cargo test` runs one test program after the other, and most of them wait more than they compute.
This builds them once, as cargo does, and runs several at once, those that take longest first. Those
that share a server run one after another: two at once would run into each other's time limits. Each
program is told to run as many tests at once as there are cores. What a program prints comes out
whole when it ends. A line for each goes to the file descriptor of `--progress-fd`, and at the end a
table goes to the file of `--table`: each program's time, and the tests that took longest.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

CARGO = ("cargo", "test", "--locked", "--workspace", "--features", "testkit")
# The longest, longest first. They begin first, so that none of them is left over at the end.
LONGEST = (
    "claviger::conformance",
    "claviger::crash",
    "claviger::canary",
    "claviger::api",
    "claviger::servers",
    "claviger (unit tests)",
    "claviger::cli",
    "claviger::listener",
    "claviger::hostile",
)
# What talks to the servers of tests/backends, and the attacks, which would take the CPU time that those need to answer
# before a deadline.
SHARED = (
    "claviger::conformance",
    "claviger::servers",
    "claviger::hostile",
    "claviger-provider-aws::battery",
    "claviger-provider-vault::battery",
)
# How many of the longest tests are listed.
LISTED = 10
# How many lines of what a failed test said are repeated at the end of the table.
REPEATED = 12


class Suite:
    """A test program, and what became of it."""

    def __init__(self, name, command, folder, variables=None, listed=True):
        self.name = name
        self.command = command
        self.folder = folder
        self.environment = os.environ | (variables or {})
        self.listed = listed
        self.tests = []
        # Names of the tests that failed.
        self.failed = []
        self.output = self.result = ""
        self.code = None
        self.seconds = self.cpu = 0.0

    def run(self, threads):
        options = ["--test-threads", str(threads)] if self.listed else []
        names = self.names() if self.listed else []
        begin = time.monotonic()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [*self.command, *options],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            lines = [(time.monotonic(), line.decode(errors="replace")) for line in process.stdout]
            process.stdout.close()
            # Those of the gateways that it started and waited for are among them.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = self.code = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            self.output = "".join(line for _, line in lines) + errors.read().decode(errors="replace")
        self.seconds = time.monotonic() - begin
        self.cpu = usage.ru_utime + usage.ru_stime
        self.tests = times(names, lines, threads, begin)
        results = re.findall(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored;", self.output, re.MULTILINE)
        self.failed = re.findall(r"^test (\S+).* \.\.\. FAILED", self.output, re.MULTILINE)
        passed, failed, ignored = (sum(map(int, numbers)) for numbers in zip(*results)) if results else (0, 0, 0)
        self.result = f"{passed} passed, {failed} failed, {ignored} ignored" if results else "no result"

    def names(self):
        """The tests in the order in which the program starts them."""
        printed = subprocess.run(
            [*self.command, "--list", "--format", "terse"], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return re.findall(r"^(\S+).*: test$", printed.stdout, re.MULTILINE)


def times(names, lines, threads, begin):
    """How long each test took, from the moments at which the tests ended: a program starts the next
    one, in the order of its list, where one has ended. [(seconds, name)]
    """
    waiting = iter(names)
    started = {name: begin for _, name in zip(range(threads), waiting)}
    taken = []
    for moment, line in lines:
        ended = re.match(r"test (\S+).* \.\.\. ", line)
        if ended and ended[1] in started:
            taken.append((moment - started.pop(ended[1]), ended[1]))
            for name in waiting:
                started[name] = moment
                break
    return taken


def build():
    """Builds all test programs; returns them as suites."""
    built = subprocess.run([*CARGO, "--no-run", "--message-format", "json-render-diagnostics"], stdout=subprocess.PIPE, check=True)
    suites = []
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") != "compiler-artifact" or not message["profile"]["test"] or not message["executable"]:
            continue
        folder = pathlib.Path(message["manifest_path"]).parent
        # `...#NAME@VERSION`, or `...#VERSION` where the folder has the package's name.
        fragment = message["package_id"].rpartition("#")[2]
        package = fragment.partition("@")[0] if "@" in fragment else folder.name
        target, kind = message["target"]["name"], message["target"]["kind"][0]
        what = {"test": f"::{target}", "bin": " (unit tests of the binary)"}.get(kind, " (unit tests)")
        # As cargo sets them.
        variables = {"CARGO_MANIFEST_DIR": str(folder), "CARGO_PKG_NAME": package}
        suites.append(Suite(package + what, [message["executable"]], folder, variables))
    return suites


def report(suites):
    """The table, as text."""
    lines = [f"{'':<44}{'time':>7}{'CPU':>7}"]
    for suite in sorted(suites, key=lambda suite: -suite.seconds):
        lines.append(f"  {suite.name:<42}{suite.seconds:>6.0f}s{suite.cpu:>6.0f}s  {suite.result}{'' if suite.code == 0 else '  FAILED'}")
    lines.append("The tests that took longest:")
    longest = sorted(((seconds, suite.name, name) for suite in suites for seconds, name in suite.tests), reverse=True)
    lines += [f"  {seconds:>6.1f}s  {suite}: {name}" for seconds, suite, name in longest[:LISTED]]
    for suite in suites:
        for name in suite.failed:
            lines += [f"FAILED: {suite.name}: {name}", *(f"    {line[:400]}" for line in said(suite.output, name))]
    return "\n".join(lines) + "\n"


def said(output, name):
    """The first lines of what a failed test printed: libtest's and libtest-mimic's `---- NAME ----`, without
    the calls of a backtrace.
    """
    section = re.search(rf"^---- {re.escape(name)}.* ----\n(.*?)(?=^---- |^failures:|\Z)", output, re.MULTILINE | re.DOTALL)
    lines = section[1].splitlines() if section else []
    return [line for line in lines if line.strip() and not re.match(r"\s+(\d+: |at )|stack backtrace|note: ", line)][:REPEATED]


def main():
    parser = argparse.ArgumentParser(description="Runs every Rust test of the workspace.")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="how many test programs at once (default: as many as cores)")
    parser.add_argument("--progress-fd", type=int, help="where a line for each program that ended goes")
    parser.add_argument("--table", type=pathlib.Path, help="where the table goes")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="only suites whose name has one of these in it (default: all)")
    arguments = parser.parse_args()

    suites = build()
    # The examples in the documentation of libraries, which rustdoc builds and runs.
    suites.append(Suite("examples in the documentation", [*CARGO, "--doc"], pathlib.Path.cwd(), listed=False))
    if arguments.suites:
        suites = [suite for suite in suites if any(name in suite.name for name in arguments.suites)]
    places = {name: place for place, name in enumerate(LONGEST)}
    suites.sort(key=lambda suite: places.get(suite.name, len(places)))

    printing = threading.Lock()

    def run(suite):
        suite.run(cores)
        with printing:
            print(f"\n-- {suite.name}\n{suite.output}", flush=True)
            if arguments.progress_fd is not None:
                os.write(arguments.progress_fd, f"   {suite.name}: {suite.result}, {suite.seconds:.0f} s\n".encode())

    def run_all(some):
        for suite in some:
            run(suite)

    # One job is for all those that share servers.
    shared = [suite for suite in suites if suite.name in SHARED]
    alone = [suite for suite in suites if suite.name not in SHARED]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(run_all, shared), *(pool.submit(run, suite) for suite in alone)]
        for ended in jobs:
            ended.result()
    table = report(suites)
    if arguments.table:
        arguments.table.write_text(table)
    else:
        print(table)
    failed = [suite.name for suite in suites if suite.code != 0]
    if failed:
        print("failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
