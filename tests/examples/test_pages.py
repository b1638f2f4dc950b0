"""Each example has a README, whose links lead somewhere, a test, and a line in the project's README."""

import pathlib

import pytest
from pages import dead_links

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/README.md"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 6
    assert {path.name for path in EXAMPLES} == {path.name for path in (ROOT / "examples").iterdir()}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_found_and_tested(example):
    assert list(dead_links(example / "README.md")) == []
    assert f"(examples/{example.name}/README.md)" in (ROOT / "README.md").read_text()
    assert (pathlib.Path(__file__).parent / f"test_{example.name.replace('-', '_')}.py").exists()
