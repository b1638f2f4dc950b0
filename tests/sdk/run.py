#!/usr/bin/env python3
"""Clients that are generated from the OpenAPI documents, compiled, and used: python3 run.py [--all] [--only TOOL]... BINARY

Each folder beside this program is one tool: its pins, the generator's settings, and a program of one page that uses the
generated client. The program runs against a gateway, and against stub.py for what a gateway does not answer on demand. It
prints `ok STEP` after each step. The matrix shows for each tool how far it came; a gap fails.

--all adds the tools that run only where they are named. `run.py --build` only installs what the others need, in the cache.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from gateway import Gateway  # noqa: E402
from stub import Stub  # noqa: E402

CACHE = pathlib.Path(os.environ.get("CLAVIGER_TEST_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "claviger-tests") / "sdk"
STEPS = ["generate", "compile", "connect", "key", "data-key", "unwrap", "context", "batch", "paging", "rotate", "disable", "no-body", "retry", "unknown", "word"]
# The steps that a tool cannot do, and why. A step that is done after all fails, too: then its line is removed.
KNOWN: dict[tuple[str, str], str] = {}
# How long one command may take, in seconds.
PATIENCE = 900


def output_of(command, folder, environment):
    """The output of a command, and whether it succeeded."""
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        return f"{error.stdout or ''}\nstill running after {PATIENCE} s\n", False
    return done.stdout, done.returncode == 0


def installed(name, pins, install):
    """A folder in the cache that `install` filled; made anew when the pins change."""
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()[:16]
    folder = CACHE / f"{name}-{stamp}"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        (folder / "ready").touch()
    return folder


def python(name):
    """The `bin` of a Python with what the folder's requirements.txt names, and nothing else."""
    pins = HERE / name / "requirements.txt"

    def install(folder):
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", pins], check=True, stdout=sys.stderr)

    return installed(name, [pins], install) / "bin"


def node(name):
    """The folder `node_modules` of a package-lock.json."""
    pins = [HERE / name / file for file in ["package.json", "package-lock.json"]]

    def install(folder):
        for path in pins:
            shutil.copy(path, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True, stdout=sys.stderr)

    return installed(name, pins, install) / "node_modules"


class Tool:
    """A folder beside this program, and the commands of each step, which run in a copy of it."""

    document = "claviger.json"
    # Whether it runs only where it is named, or with --all.
    by_name = False

    def __init__(self, name):
        self.name = name

    def install(self):
        """Fetches what the commands need, once, into the cache."""

    def prepare(self, folder):
        """Adds to the copy what the commands need in it."""

    def generator(self):
        """openapi-generator with the settings in generator.yaml; the folder for the client is its last option."""
        return [python("generators") / "openapi-generator-cli", "generate", "-c", "generator.yaml", "-i", ROOT / "openapi" / self.document]


class Python(Tool):
    """The program in Python; what it uses is generated beside it."""

    def install(self):
        python("generators")
        python(self.name)

    def generate(self):
        return [*self.generator(), "-o", "."]

    def commands(self):
        own = python(self.name) / "python"
        yield "generate", [self.generate()]
        yield "compile", [
            [own, "-m", "compileall", "-q", "."],
            # What is generated is checked where the program uses it.
            [python("generators") / "mypy", "--python-executable", own, "--follow-imports=silent", "main.py"],
        ]
        yield "run", [[own, "main.py"]]


class OpenapiPythonClient(Python):
    def generate(self):
        return [python("generators") / "openapi-python-client", "generate", "--config", "generator.yaml", "--meta", "none", "--output-path", "claviger_api", "--path", ROOT / "openapi" / self.document]


class Go(Tool):
    """The program in Go; what it uses is generated into the package `api` of its module."""

    def generate(self):
        return [*self.generator(), "-o", "api"]

    def install(self):
        python("generators")
        subprocess.run(["go", "mod", "download"], cwd=HERE / self.name, check=True, stdout=sys.stderr)

    def commands(self):
        yield "generate", [self.generate()]
        yield "compile", [["go", "vet", "-mod=readonly", ".", "./api"], ["go", "build", "-mod=readonly", "-o", "program", "."]]
        yield "run", [["./program"]]


class OapiCodegen(Go):
    """The generator is a tool of the program's module."""

    def generate(self):
        return ["go", "tool", "oapi-codegen", "-config", "generator.yaml", ROOT / "openapi" / self.document]

    def install(self):
        subprocess.run(["go", "tool", "oapi-codegen", "-version"], cwd=HERE / self.name, check=True, stdout=subprocess.DEVNULL)

    def prepare(self, folder):
        (folder / "api").mkdir()


class TypeScript(Tool):
    """The program in TypeScript; what it uses is generated into the folder `api`."""

    def generate(self):
        return [*self.generator(), "-o", "api"]

    def install(self):
        python("generators")
        node(self.name)

    def prepare(self, folder):
        (folder / "node_modules").symlink_to(node(self.name))

    def commands(self):
        yield "generate", [self.generate()]
        yield "compile", [["node_modules/.bin/tsc", "-p", "."]]
        yield "run", [["node", "built/main.js"]]


class OpenapiTypescript(TypeScript):
    """Types alone, for the client openapi-fetch."""

    def install(self):
        node(self.name)

    def generate(self):
        return ["node_modules/.bin/openapi-typescript", ROOT / "openapi" / self.document, "--output", "api.ts"]


class Java(Tool):
    """The program in Java; what it uses is generated into the folder `api`. Maven keeps what it fetches in the cache."""

    by_name = True

    def install(self):
        python("generators")
        for program in ["mvn", "javac"]:
            if shutil.which(program) is None:
                raise SystemExit(f"{self.name} needs '{program}': Maven 3.8 and JDK 17, or later ones")

    def commands(self):
        yield "generate", [[*self.generator(), "-o", "api"]]
        yield "compile", [["mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={CACHE / 'maven'}", "process-classes"]]
        yield "run", [["java", "-cp", "target/classes:target/lib/*", "Main"]]


class Rust(Tool):
    """The program in Rust; what it uses is generated into the crate `api`. What cargo builds is kept in the cache."""

    by_name = True

    def install(self):
        python("generators")
        subprocess.run(["cargo", "--version"], check=True, stdout=subprocess.DEVNULL)

    def generate(self):
        return [*self.generator(), "-o", "api"]

    def commands(self):
        target = CACHE / "cargo" / self.name
        yield "generate", [self.generate()]
        yield "compile", [["cargo", "build", "--quiet", "--locked", "--target-dir", target]]
        yield "run", [[target / "debug" / "claviger-tests-sdk"]]


class Progenitor(Rust):
    """It reads no 3.1, and writes a crate."""

    document = "claviger-3.0.json"
    version = "0.15.1"

    def root(self):
        return CACHE / f"cargo-progenitor-{self.version}"

    def install(self):
        subprocess.run(["cargo", "install", "--quiet", "--locked", "--root", self.root(), f"cargo-progenitor@{self.version}"], check=True, stdout=sys.stderr)

    def generate(self):
        options = ["--output", "api", "--name", "claviger-api", "--version", "0.0.0", "--interface", "builder"]
        return [self.root() / "bin/cargo-progenitor", "progenitor", "--input", ROOT / "openapi" / self.document, *options]


TOOLS = [
    Python("python-openapi-generator"),
    OpenapiPythonClient("python-openapi-python-client"),
    TypeScript("typescript-openapi-generator"),
    OpenapiTypescript("typescript-openapi-typescript"),
    Go("go-openapi-generator"),
    OapiCodegen("go-oapi-codegen"),
    Java("java-openapi-generator"),
    Rust("rust-openapi-generator"),
    Progenitor("rust-progenitor"),
]


def try_tool(tool, gateway, stub, folder):
    """Each step of a tool that was done, and the output of the command that failed, if one did."""
    steps = []
    # The proxy of an environment is not for loopback.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAVIGER_")} | {"NO_PROXY": "*", "no_proxy": "*", "CGO_ENABLED": "0"}
    environment |= {
        "CLAVIGER_ADDRESS": f"http://{gateway.address}",
        "CLAVIGER_STUB_ADDRESS": stub.address,
        "CLAVIGER_TOKEN_FILE": str(gateway.token_file),
        "CLAVIGER_TENANT": tool.name,
    }
    shutil.copytree(HERE / tool.name, folder)
    tool.prepare(folder)
    gateway.with_tenant(tool.name, "first")
    for name in ["second", "third", "fourth"]:
        gateway.call("POST", "/v1/keys", {"name": name, "connection": "embedded"}, tenant=tool.name)
    for step, commands in tool.commands():
        for command in commands:
            text, succeeded = output_of(command, folder, environment)
            if step == "run":
                steps += re.findall(r"^ok (\S+)$", text, re.MULTILINE)
            missing = set(STEPS) - set(steps)
            if not succeeded and not missing:
                return steps[:-1], text
            if not succeeded and not (step == "run" and all((tool.name, other) in KNOWN for other in missing)):
                return steps, text
        if step != "run":
            steps.append(step)
    # What a program says of its own repetitions is not enough.
    repeated, final = stub.times[tool.name]["/v1/unwrap"], stub.times[tool.name]["/v1/keys/refused"]
    if len(repeated) != 2 or repeated[1] - repeated[0] < 1 or len(final) != 1:
        steps.remove("retry")
        return steps, f"an unwrap was to come twice, a second apart, and came at {repeated}; a request that was not to be repeated came {len(final)} times"
    return steps, ""


def matrix(results):
    """The table tool × step."""
    width = max(len(tool.name) for tool in results)
    lines = [" " * width + "  " + "  ".join(STEPS)]
    for tool, (steps, _, seconds) in results.items():
        cells = [verdict(tool, step, steps).center(len(step)) for step in STEPS]
        lines.append(f"{tool.name:{width}}  {'  '.join(cells)}  {seconds:3.0f} s")
    lines += [f"known: {tool}, {step}: {reason}" for (tool, step), reason in KNOWN.items() if tool in [tool.name for tool in results]]
    return "\n".join(line.rstrip() for line in lines)


def verdict(tool, step, steps):
    known, done = (tool.name, step) in KNOWN, step in steps
    return ("FAIL" if known else "ok") if done else ("known" if known else "FAIL")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--only", action="append", choices=[tool.name for tool in TOOLS])
    arguments = parser.parse_args()
    tools = [tool for tool in TOOLS if (tool.name in arguments.only if arguments.only else arguments.all or not tool.by_name)]
    for tool in tools:
        tool.install()
    if arguments.build:
        return 0

    results = {}
    with contextlib.ExitStack() as stack:
        gateway, stub = stack.enter_context(Gateway(arguments.binary)), stack.enter_context(Stub())
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claviger-sdk-")))

        def timed(tool):
            begin = time.monotonic()
            steps, trouble = try_tool(tool, gateway, stub, work / tool.name)
            return tool, (steps, trouble, time.monotonic() - begin)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = dict(pool.map(timed, tools))
    for tool, (steps, trouble, _) in results.items():
        if trouble and any(verdict(tool, step, steps) == "FAIL" for step in STEPS):
            print(f"== {tool.name}\n{trouble}")
    print(matrix(results))
    verdicts = [verdict(tool, step, steps) for tool, (steps, _, _) in results.items() for step in STEPS]
    failed = verdicts.count("FAIL")
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
