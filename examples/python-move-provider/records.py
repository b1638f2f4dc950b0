"""The application: a table of records, each encrypted with a data key of its own.

python3 records.py add COUNT    adds records
python3 records.py check        decrypts all of them, and counts them by key version
"""

import argparse
import collections
import os
import sqlite3
import sys

from claviger_client import ClavigerError, Client, FailedItem, GenerateItem, UnwrapItem
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY = "records"
TABLE = """
    create table if not exists records (
        id          integer primary key,
        wrapped     text    not null,   -- the record's data key
        key_version integer not null,   -- the version of the key that wrapped it
        content     blob    not null    -- nonce and ciphertext
    )"""


def open_database() -> sqlite3.Connection:
    database = sqlite3.connect("records.db")
    database.execute(TABLE)
    return database


def context(number: int) -> dict[str, str]:
    """Bind a data key to its record."""
    return {"table": "records", "id": str(number)}


def text(number: int) -> bytes:
    return f"The content of record {number}".encode()


def add(claviger: Client, database: sqlite3.Connection, count: int) -> None:
    first = database.execute("select coalesce(max(id), 0) + 1 from records").fetchone()[0]
    numbers = range(first, first + count)
    with database:
        data_keys = claviger.batch_generate_data_keys(GenerateItem(key=KEY, context=context(number)) for number in numbers)
        for number, made in zip(numbers, data_keys, strict=True):
            if isinstance(made, FailedItem):
                raise made.error
            assert made.plaintext is not None
            nonce = os.urandom(12)
            content = nonce + AESGCM(made.plaintext.expose()).encrypt(nonce, text(number), None)
            database.execute("insert into records values (?, ?, ?, ?)", (number, made.wrapped, made.version, content))


def check(claviger: Client, database: sqlite3.Connection) -> None:
    rows = database.execute("select id, wrapped, key_version, content from records order by id").fetchall()
    versions: collections.Counter[int] = collections.Counter()
    data_keys = claviger.batch_unwrap(UnwrapItem(key=KEY, wrapped=wrapped, context=context(number)) for number, wrapped, *_ in rows)
    for (number, _, version, content), data_key in zip(rows, data_keys, strict=True):
        if isinstance(data_key, FailedItem):
            raise data_key.error
        if AESGCM(data_key.plaintext.expose()).decrypt(content[:12], content[12:], None) != text(number):
            raise ValueError(f"record {number} has another content")
        versions[version] += 1
    counts = ", ".join(f"{count} with version {version}" for version, count in sorted(versions.items()))
    print(f"{len(rows)} records open: {counts}")


def main() -> int:
    parser = argparse.ArgumentParser(description="A table of encrypted records.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("count", type=int)
    commands.add_parser("check")
    arguments = parser.parse_args()
    try:
        with Client.from_env() as claviger:
            if arguments.command == "add":
                add(claviger, open_database(), arguments.count)
            else:
                check(claviger, open_database())
    except ClavigerError as error:
        print(f"records: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
