"""Its own tests are those of the README. Here the program is run: what it does is in its exit code."""

import json
import re
import shutil

import pytest
from proxy import Proxy

EXAMPLE = "rust-mocked-key-manager"
BUILD_BLOCKS = 1
# What cargo reads of a package beside its own folder: the crates that it uses, and the manifest that theirs inherit from.
BESIDE = ("clients/rust", "crates/encrypted-file", "providers/testkit", "Cargo.toml")
UNWRAP = "/v1/unwrap"


@pytest.fixture
def notes(example, claviger):
    """The example, with a note."""
    claviger.create_key("notes", "embedded")
    assert write(example, "shopping", "milk") == (0, "")
    return example


def write(example, name, text, **variables):
    return example.run("bin/notes", "write", name, input=text, **variables)


def read(example, name, **variables):
    return example.run("bin/notes", "read", name, **variables)


def test_readme(example):
    output = example.readme()
    assert "\nmilk\n" in output and "notes: the key is switched off: " in output and "[key_disabled]" in output
    # Those with the fake and with the mock.
    assert [int(count) for count in re.findall(r"^test result: ok\. (\d+) passed", output, re.MULTILINE) if count != "0"] == [6, 6]


def test_no_note_is_stored_readable(notes):
    stored = json.loads((notes.folder / "notes" / "shopping.json").read_text())
    assert set(stored) == {"wrapped", "sealed"} and "milk" not in json.dumps(stored)
    assert read(notes, "shopping") == (0, "milk")


def test_a_key_that_is_off_is_told(notes, claviger):
    claviger.disable_key("notes")
    for code, output in [read(notes, "shopping"), write(notes, "errands", "post office")]:
        assert code == 3 and "[key_disabled]" in output
    claviger.enable_key("notes")
    assert read(notes, "shopping") == (0, "milk")


def test_a_note_that_was_changed_or_renamed_is_refused(notes):
    folder = notes.folder / "notes"
    shutil.copy(folder / "shopping.json", folder / "errands.json")
    code, output = read(notes, "errands")
    assert code == 1 and "[ciphertext_rejected]" in output
    stored = json.loads((folder / "shopping.json").read_text())
    for damaged in ["", "{}", json.dumps(stored | {"sealed": "AA=="}), json.dumps(stored | {"sealed": stored["sealed"][:-8] + "AAAAAAA="})]:
        (folder / "shopping.json").write_text(damaged)
        code, output = read(notes, "shopping")
        assert code == 1 and output.endswith("shopping.json: the file was changed\n"), output


def test_later_is_another_exit_code(notes, gateway):
    with Proxy(gateway.variables["CLAVIGER_ADDRESS"]) as proxy:
        proxy.instead = lambda _method, _path: proxy.problem(503, "circuit_open", retry_after=3600)
        code, output = read(notes, "shopping", CLAVIGER_ADDRESS=proxy.address)
        assert code == 4 and output.startswith("notes: try again later: ") and len(proxy.times(UNWRAP)) == 1, output


def test_bad_input_is_an_error(notes):
    for command in [["read", "nobody"], ["read", "../shopping"], ["write", ""], ["read"], []]:
        code, output = notes.run("bin/notes", *command)
        assert code == 2 and output.startswith("notes: "), output
    code, output = read(notes, "shopping", CLAVIGER_TOKEN_FILE="/nowhere")
    assert code == 2 and "/nowhere" in output
