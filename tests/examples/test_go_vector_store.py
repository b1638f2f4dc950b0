"""A customer's key decides about the customer's vectors, and about no others."""

import json
import shutil

import pytest

EXAMPLE = "go-vector-store"
BUILD_BLOCKS = 1
QUERY = "[0.9, 0.1]"
FOUND = (0, "0.994 red\n0.110 green\n")


@pytest.fixture
def store(example):
    """The example, with two vectors of Acme and one of Globex."""
    for customer, vectors in {"acme": {"red": [1, 0], "green": [0, 1]}, "globex": {"blue": [1, 0]}}.items():
        assert vectors_of(example, "join", customer, "embedded") == (0, "")
        lines = "\n".join(json.dumps({"id": name, "values": values}) for name, values in vectors.items())
        assert example.run("./vectors", "add", customer, input=lines) == (0, "")
    return example


def vectors_of(example, *arguments):
    return example.run("./vectors", *arguments)


def segment(store, customer):
    (path,) = (store.folder / "store" / customer).glob("*.json")
    return path


def test_readme(example):
    output = example.readme()
    assert output.count("0.994 red\n0.110 green\n") == 2 and "0.994 blue\n" in output
    assert "the key of acme is switched off" in output and "[key_disabled]" in output


def test_a_disabled_key_stops_its_customer_and_no_other(store, claviger):
    assert vectors_of(store, "search", "acme", QUERY) == FOUND
    claviger.disable_key("customer-acme")
    for command in [["search", "acme", QUERY], ["add", "acme"]]:
        code, output = vectors_of(store, *command)
        assert code == 3 and "[key_disabled]" in output and "red" not in output
    assert vectors_of(store, "search", "globex", QUERY) == (0, "0.994 blue\n")
    claviger.enable_key("customer-acme")
    assert vectors_of(store, "search", "acme", QUERY) == FOUND


def test_no_vector_is_stored_readable(store):
    text = segment(store, "acme").read_text()
    assert "red" not in text and set(json.loads(text)) == {"name", "wrapped", "sealed"}


@pytest.mark.parametrize("member", [None, "name", "wrapped", "sealed"])
def test_a_segment_of_another_customer_is_refused(store, member):
    """The whole of it, or a member."""
    source, target = segment(store, "acme"), segment(store, "globex")
    if member is None:
        shutil.copy(source, target)
    else:
        changed = json.loads(target.read_text()) | {member: json.loads(source.read_text())[member]}
        target.write_text(json.dumps(changed))
    code, output = vectors_of(store, "search", "globex", QUERY)
    assert code == 1 and "red" not in output
    assert ("its content was changed" if member == "sealed" else "[ciphertext_rejected]") in output


def test_a_customer_joins_once(store):
    assert vectors_of(store, "join", "acme", "embedded") == (0, "")
    assert vectors_of(store, "search", "acme", QUERY) == FOUND


@pytest.mark.parametrize("arguments", [["search", "../acme", QUERY], ["search", "acme", "[1]"], ["search", "acme", "red"], ["add", "nobody"], ["join", "acme"]])
def test_bad_input_is_an_error(store, arguments):
    code, output = vectors_of(store, *arguments)
    assert code == 1 and output.startswith("vectors: ") and "red\n" not in output
