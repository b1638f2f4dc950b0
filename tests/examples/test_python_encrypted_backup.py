"""Each file has a data key of its own, and what is wrong with one file harms no other."""

import base64
import os

import pytest

EXAMPLE = "python-encrypted-backup"


@pytest.fixture
def saved(example, claviger):
    """The example, with a backup of three files."""
    claviger.create_key("backups", "embedded")
    for name in ["a.txt", "b.txt", "folder/c.txt"]:
        path = example.folder / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    code, output = example.run("python3", "backup.py", "save", "documents", "backup")
    assert (code, output) == (0, "saved a.txt\nsaved b.txt\nsaved folder/c.txt\n")
    return example


def restore(example):
    return example.run("python3", "backup.py", "restore", "backup", "restored")


def restored(example):
    folder = example.folder / "restored"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_readme(example):
    output = example.readme()
    assert "not restored: numbers.txt" in output and "[file_damaged]" in output
    assert "backup: " in output and "[key_disabled]" in output


def test_each_file_has_its_own_data_key(saved, claviger):
    data_keys = set()
    for path in (saved.folder / "backup").rglob("*.clv"):
        content = path.read_bytes()
        assert b"content of" not in content
        length = int.from_bytes(content[4:8], "big")
        envelope = "clv1." + base64.urlsafe_b64encode(content[8 : 8 + length]).decode().rstrip("=")
        data_keys.add(claviger.inspect(envelope).dek_id)
    assert len(data_keys) == 3


def test_a_file_under_another_name_is_refused_alone(saved):
    backup = saved.folder / "backup"
    os.replace(backup / "a.txt.clv", backup / "b.txt.clv")
    code, output = restore(saved)
    assert code == 1 and "not restored: b.txt" in output and "[ciphertext_rejected]" in output
    assert restored(saved) == {"folder/c.txt": "content of folder/c.txt"}


@pytest.mark.parametrize("place", [1, 3, 20, 200, -1])
def test_a_damaged_file_is_refused_alone(saved, place):
    path = saved.folder / "backup" / "a.txt.clv"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    code, output = restore(saved)
    assert code == 1 and "not restored: a.txt" in output
    assert restored(saved) == {"b.txt": "content of b.txt", "folder/c.txt": "content of folder/c.txt"}


def test_a_disabled_key_ends_the_restore(saved, claviger):
    claviger.disable_key("backups")
    code, output = restore(saved)
    assert code == 2 and output.startswith("backup: ") and "[key_disabled]" in output
    assert restored(saved) == {}
    claviger.enable_key("backups")
    assert restore(saved)[0] == 0 and len(restored(saved)) == 3


def test_a_gateway_that_is_away_ends_the_restore(saved):
    code, output = saved.run("python3", "backup.py", "restore", "backup", "restored", CLAVIGER_ADDRESS="http://127.0.0.1:1")
    assert code == 2 and "[gateway_unreachable]" in output and "Traceback" not in output
