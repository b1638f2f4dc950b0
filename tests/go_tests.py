#!/usr/bin/env python3
"""Runs gofmt, go vet, and with the race detector the tests of a Go module: python3 go_tests.py FOLDER

Prints what failed and the line that tests/run counts. A test that is skipped counts as failed.
"""

import collections
import json
import subprocess
import sys


def clean(folder):
    """How many of gofmt and go vet have nothing to say."""
    count = 0
    # With the race detector as the tests, so that the standard library is built once only.
    for command in (["gofmt", "-l", "."], ["go", "vet", "-race", "./..."]):
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        count += done.returncode == 0 and not done.stdout
        print(f"{' '.join(command)}:\n{done.stdout}" if done.returncode or done.stdout else "", end="")
    return count


def main(folder):
    passed = clean(folder)
    command = ["go", "test", "-race", "-count=1", "-json", "./..."]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output, ends = collections.defaultdict(list), {}
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                # Of the go command itself.
                print(line, end="")
                continue
            # The output of a build has its package under another name.
            place = event.get("Package") or event.get("ImportPath", ""), event.get("Test", "")
            output[place].append(event.get("Output", ""))
            if event["Action"] in ("pass", "fail", "skip", "build-fail"):
                ends[place] = event["Action"]
    # A package that does not build has no tests. That its tests failed is no further failure.
    tests = {place: end for place, end in ends.items() if place[1]}
    failed = {place for place, end in tests.items() if end != "pass"}
    broken = {place for place, end in ends.items() if not place[1] and end in ("fail", "build-fail") and not any(place[0] == test[0] for test in failed)}
    for place in sorted(failed | broken):
        print("".join(output[place]), end="")
    passed, failures = passed + len(tests) - len(failed), 2 - passed + len(failed) + len(broken)
    print(f"{passed} passed, {failures} failed")
    return 1 if failures or process.returncode != 0 or not tests else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
