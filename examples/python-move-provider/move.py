"""Move a key to another provider, and rewrap all data keys that it wrapped.

python3 move.py CONNECTION

It can be killed at any time: run it again, and it goes on where it was. The application keeps reading and writing meanwhile.
"""

import argparse
import sqlite3
import sys
import time

from claviger_client import CiphertextRejectedError, ClavigerError, Client, FailedItem, InvalidEnvelopeError, RewrapItem
from claviger_client.models import RotationState

from records import KEY, context, open_database

BATCH = 100


def move_key(claviger: Client, connection: str) -> int:
    """Make the key's primary version one at the connection's provider; return its number. New data keys are wrapped there."""
    key = claviger.get_key(KEY)
    if key.connection != connection:
        # With this idempotency key, a run that repeats the request of an interrupted one makes no second version.
        key = claviger.rotate_key(KEY, connection=connection, idempotency_key=f"{KEY}-from-{key.primary_version}-to-{connection}")
    while key.rotation.state == RotationState.IN_PROGRESS:
        time.sleep(1)
        key = claviger.get_key(KEY)
    print(f"{KEY} is at {key.connection}, version {key.primary_version}", flush=True)
    return key.primary_version


def rewrap_batch(claviger: Client, database: sqlite3.Connection, batch: list[tuple[int, str]]) -> None:
    """Rewrap some records, and report those that are refused."""
    results = claviger.batch_rewrap(RewrapItem(key=KEY, wrapped=wrapped, context=context(number)) for number, wrapped in batch)
    trouble = None
    # A transaction. A run that is killed before its end rewraps the batch again, from the wrapped keys that are still there.
    with database:
        for (number, wrapped), result in zip(batch, results, strict=True):
            if not isinstance(result, FailedItem):
                # If the application has stored another wrapped key meanwhile, that one stays.
                changed = (result.wrapped, result.version, number, wrapped)
                database.execute("update records set wrapped = ?, key_version = ? where id = ? and wrapped = ?", changed)
            elif isinstance(result.error, (CiphertextRejectedError, InvalidEnvelopeError)):
                print(f"record {number} is refused: {result.error}", file=sys.stderr)
            else:
                # The fault of a provider, the key or the token: it concerns all records.
                trouble = result.error
    if trouble:
        raise trouble


def rewrap_all(claviger: Client, database: sqlite3.Connection, version: int) -> int:
    """Rewrap each record that an older version wrapped; return how many are left."""
    total, done, last = count_older(database, version), 0, 0
    while batch := database.execute(
        "select id, wrapped from records where key_version < ? and id > ? order by id limit ?", (version, last, BATCH)
    ).fetchall():
        rewrap_batch(claviger, database, batch)
        done, last = done + len(batch), batch[-1][0]
        print(f"{done} of {total} records, {done * 100 // max(total, done)} %", flush=True)
    return count_older(database, version)


def count_older(database: sqlite3.Connection, version: int) -> int:
    count: int = database.execute("select count(*) from records where key_version < ?", (version,)).fetchone()[0]
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="Move a key to another provider, and rewrap all data keys that it wrapped.")
    parser.add_argument("connection")
    arguments = parser.parse_args()
    try:
        with Client.from_env() as claviger:
            version = move_key(claviger, arguments.connection)
            left = rewrap_all(claviger, open_database(), version)
    except ClavigerError as error:
        print(f"move: {error}", file=sys.stderr)
        return 2
    if left:
        print(f"{left} records are left: they were refused, or changed meanwhile", file=sys.stderr)
        return 1
    print("done: no record depends on an older version any more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
