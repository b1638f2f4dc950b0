"""A move to OpenBao that is killed again and again: all is rewrapped, nothing is lost, nothing is done twice."""

import os
import signal
import sqlite3
import subprocess

import pytest
from proxy import HOLD, Proxy

EXAMPLE = "python-move-provider"
RECORDS = 500
ROTATE, REWRAP = "/v1/keys/records/rotate", "/v1/batch/rewrap"
MOVED, DONE = "records is at vault, version 2\n", "done: no record depends on an older version any more\n"
# tests/backends/openbao/start prints both.
SERVER = {"BAO_ADDR": os.environ["CLAVIGER_TEST_OPENBAO_ADDRESS"], "BAO_TOKEN": os.environ["CLAVIGER_TEST_OPENBAO_TOKEN"]}


@pytest.fixture
def records(example, claviger):
    """The example, with records under a key of the gateway's own, and a connection `vault`."""
    claviger.create_key("records", "embedded")
    claviger.create_connection("vault", "vault", {"address": SERVER["BAO_ADDR"], "auth": {"token": SERVER["BAO_TOKEN"]}})
    assert example.run("python3", "records.py", "add", str(RECORDS)) == (0, "")
    # Notes each change of a wrapped key.
    sql(example, "create table changes (id integer)")
    sql(example, "create trigger noted after update of wrapped on records begin insert into changes values (new.id); end")
    return example


def sql(example, statement, *values):
    database = sqlite3.connect(example.folder / "records.db")
    with database:
        rows = database.execute(statement, values).fetchall()
    database.close()
    return rows


def rewrapped(example):
    return sql(example, "select count(*) from records where key_version = 2")[0][0]


def move(example):
    return example.run("python3", "move.py", "vault")


def check(example):
    return example.run("python3", "records.py", "check")


def move_and_kill(example, gateway, path, number):
    """Kills the program after the gateway carried out the nth request of a path, and before the response arrives."""
    with Proxy(gateway.variables["CLAVIGER_ADDRESS"]) as proxy:
        proxy.instead = lambda _, asked: HOLD if asked == path and len(proxy.times(path)) == number else None
        variables = example.environment | {"CLAVIGER_ADDRESS": proxy.address}
        with subprocess.Popen(["python3", "move.py", "vault"], cwd=example.folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            held = proxy.held.wait(60)
            process.kill()
        assert held and process.returncode == -signal.SIGKILL


def data_keys(example, claviger):
    """What each record's wrapped key says of itself."""
    return {number: claviger.inspect(wrapped) for number, wrapped in sql(example, "select id, wrapped from records where id % 50 = 0")}


def test_readme(example):
    example.environment |= SERVER
    output = example.readme()
    assert f"{RECORDS} of {RECORDS} records, 100 %" in output and SERVER["BAO_TOKEN"] not in output
    assert output.count(f"{RECORDS} records open: {RECORDS} with version 2") == 2


def test_killed_again_and_again_it_moves_all_once(records, claviger, gateway):
    before = data_keys(records, claviger)
    # In the middle of the move of the key, and of a batch after none, two and no more batches.
    for path, number, done in [(ROTATE, 1, 0), (REWRAP, 1, 0), (REWRAP, 3, 200), (REWRAP, 1, 200)]:
        move_and_kill(records, gateway, path, number)
        assert rewrapped(records) == done
        assert check(records)[0] == 0, "in between, all records open"
    assert move(records) == (0, f"{MOVED}100 of 300 records, 33 %\n200 of 300 records, 66 %\n300 of 300 records, 100 %\n{DONE}")
    assert check(records) == (0, f"{RECORDS} records open: {RECORDS} with version 2\n")

    # Each wrapped key was replaced once, and by one of the same data key at the new provider.
    assert sql(records, "select count(*), count(distinct id) from changes") == [(RECORDS, RECORDS)]
    after = data_keys(records, claviger)
    assert {number: it.dek_id for number, it in after.items()} == {number: it.dek_id for number, it in before.items()}
    assert {recipient.provider for it in after.values() for recipient in it.recipients} == {"vault"}
    # One version was made, though the program was started five times.
    assert [version.number for version in claviger.list_key_versions("records")] == [1, 2]

    # There is nothing left to do.
    assert move(records) == (0, MOVED + DONE)
    assert sql(records, "select count(*) from changes") == [(RECORDS,)]


def test_a_record_that_is_refused_is_told_and_stops_no_other(records):
    sql(records, "update records set wrapped = (select wrapped from records where id = 8) where id = 7")
    code, output = move(records)
    assert code == 1 and "record 7 is refused: " in output and "[ciphertext_rejected]" in output and "1 records are left" in output
    assert rewrapped(records) == RECORDS - 1


def test_a_severed_connection_ends_the_move_and_a_restored_one_continues_it(records, claviger, gateway):
    move_and_kill(records, gateway, REWRAP, 2)
    claviger.sever_connection("embedded")
    code, output = move(records)
    assert code == 2 and "[connection_severed]" in output
    assert rewrapped(records) == 100
    claviger.restore_connection("embedded")
    assert move(records)[0] == 0 and rewrapped(records) == RECORDS
    assert check(records)[0] == 0


def test_what_the_application_writes_meanwhile_stays(records):
    """A record that is replaced while its batch is under way: the trigger stands in for the application."""
    sql(
        records,
        "create trigger replaced before update of wrapped on records when new.id = 1 and new.key_version = 2"
        " begin update records set wrapped = 'clv1.newer' where id = 2; end",
    )
    code, output = move(records)
    assert code == 1 and "1 records are left" in output
    assert sql(records, "select wrapped, key_version from records where id = 2") == [("clv1.newer", 1)]
    assert rewrapped(records) == RECORDS - 1
