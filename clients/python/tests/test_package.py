"""The package: types, wheel and sdist, and the programs of the README."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT

import claviger_client

HERE = ROOT / "clients" / "python"


def run(*arguments, **options):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_types():
    environment = os.environ | {"MYPYPATH": str(HERE / "src")}
    cache = ("--cache-dir", os.devnull)
    run("-m", "mypy", *cache, "--config-file", HERE / "pyproject.toml", HERE / "src", HERE / "tests" / "typed_program.py", env=environment)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist; the wheel is built from the unpacked sdist, as installers do."""
    folder = tmp_path_factory.mktemp("built")
    run("-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=HERE)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # Python 3.10 and 3.11 have the filter in some releases only.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    run("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=folder / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_the_wheel_and_the_sdist(built, tmp_path):
    sdist, wheel = built
    assert sdist.name == f"claviger_client-{claviger_client.__version__}.tar.gz"
    sources = {path.relative_to(HERE / "src").as_posix() for path in (HERE / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        information = {name.rsplit("dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name}
        assert archive.read(information["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
        metadata = archive.read(information["METADATA"]).decode()
    assert names == sources
    assert "claviger_client/py.typed" in names
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert required == ["Requires-Dist: httpx<1,>=0.27", "Requires-Dist: cryptography>=50; extra == 'files'"]
    assert "License-Expression: Apache-2.0" in metadata
    with tarfile.open(sdist) as archive:
        packed = {member.name.split("/", 1)[1]: member for member in archive.getmembers()}
    assert {f"src/{name}" for name in sources} | {"README.md", "LICENSE", "pyproject.toml", "PKG-INFO"} == set(packed) - {".gitignore"}
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", tmp_path, wheel)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import claviger_client as c; print(c.__file__, c.__version__)"
    assert run("-I", "-c", program).split() == [str(tmp_path / "claviger_client" / "__init__.py"), claviger_client.__version__]


def test_the_dependencies_are_few():
    requirements = importlib.metadata.requires("httpx")
    assert requirements, "httpx is what the client needs"
    text = (HERE / "pyproject.toml").read_text()
    assert 'dependencies = ["httpx>=0.27,<1"]' in text

    def used(form):
        return {
            (line.split()[1].split(".")[0], path.name)
            for path in (HERE / "src").rglob("*.py")
            for line in path.read_text().splitlines()
            if re.match(form, line)
        }

    assert {name for name, _ in used(r"(import|from) \w")} - set(sys.stdlib_module_names) == {"httpx"}
    # Where it is missing, everything else works: test_files_io.py.
    assert {place for place in used(r" +(import|from) \w") if place[0] == "cryptography"} == {("cryptography", "_file_format.py")}


def test_the_programs_of_the_readme(gateway, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for variable in [variable for variable in os.environ if variable.startswith("CLAVIGER_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("CLAVIGER_ADDRESS", f"http://{gateway.address}")
    monkeypatch.setenv("CLAVIGER_TOKEN_FILE", str(gateway.token_file))
    monkeypatch.setenv("CLAVIGER_TENANT", "acme")
    blocks = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    names = {"__name__": "readme"}
    for block in blocks:
        # Later programs go on with the names of earlier ones, as a reader does.
        exec(compile(block, "README.md", "exec"), names)
    assert "documents" in capsys.readouterr().out
