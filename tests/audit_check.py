#!/usr/bin/env python3
"""Reads a real gateway's audit log with the reader of docs/audit-format.md:
python3 audit_check.py BINARY

The reader stops on damage and on a gap in a tenant's sequence numbers. The records must have
each answered operation once and in order, across a SIGKILL, and no byte of a data key. After a
cut in the middle the reader goes on behind the lost part, and without the oldest files that were
archived at the first one that is left, also where the lost part was in one of these. It reports a
missing last file, reads a part where it is asked to, and takes no more memory for a longer log. The
embedded provider calls no other service, so no record may have a provider call.
"""

import base64
import hashlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import audit_reader
from gateway import Gateway

TENANT = "acme"
ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(binary):
    with Gateway(binary) as gateway:
        gateway.with_tenant(TENANT, "orders")
        made = gateway.call("POST", "/v1/keys/orders/data-keys", {}, tenant=TENANT)
        for _ in range(3):
            opened = gateway.call("POST", "/v1/unwrap", {"wrapped": made["wrapped"]}, tenant=TENANT)
            assert opened["plaintext"] == made["plaintext"], "unwrap returned another key"
        gateway.kill()
        gateway.serve()
        gateway.stop()
        log = content(gateway)
        records = read(gateway.data)
        in_little_memory(gateway.data)

    done = [record["operation"] for record in records if record["kind"] == "outcome" and record["result"] == "success"]
    asked = ["ManageTenants", "CreateConnection", "CreateKey", "GenerateDataKey", "Unwrap", "Unwrap", "Unwrap"]
    found = [operation for operation in done if operation in asked]
    assert found == asked, f"answered: {asked}; recorded: {found}"
    assert not list(audit_reader.calls(records)), "a provider call of the embedded provider"
    key = base64.b64decode(made["plaintext"])
    for form in (key, key.hex().encode(), made["plaintext"].encode()):
        assert form not in log, "the log has a data key"
    print(f"{len(records)} records, in order, whole, and without the data key")
    lost = lost_part(binary)
    print(f"{len(lost)} records of a log that was cut while the gateway ran")
    kept = shortened(binary)
    print(f"{len(kept)} records of a log whose oldest files were archived")
    jumped = without_lost_part(binary)
    print(f"{len(jumped)} records of a log whose lost part was removed")
    earlier = read(ROOT / "tests/upgrade/folder-1")
    assert len(earlier) > 50 and all(record["v"] == 1 for record in earlier), f"{len(earlier)} records"
    print(f"{len(earlier)} records of a log in one file, as an earlier release wrote it")
    misused()
    print("6 passed, 0 failed")


def lost_part(binary):
    """The records that are left of a log that was cut in the middle."""
    with Gateway(binary) as gateway:
        gateway.with_tenant(TENANT, "orders")
        for _ in range(30):
            gateway.call("POST", "/v1/keys/orders/data-keys", {}, tenant=TENANT)
        before = read(gateway.data)
        os.truncate(gateway.data / "audit-00000000000000000000.log", len(content(gateway)) // 2)
        gateway.call("POST", "/v1/keys/orders/rotate", None, tenant=TENANT)
        gateway.stop()
        records = read(gateway.data)
    left = len([record for record in records if record in before])
    assert len(before) // 3 < left < len(before), f"{left} of {len(before)} records are left"
    assert [record["cause"] for record in records if record["kind"] == "restarted"] == ["log_lost"]
    assert any(record["operation"] == "Rotate" for record in records), "a record after the loss is missing"
    return records


def shortened(binary):
    """The records that are left in a folder whose oldest files were archived: the reader finds what was
    removed in them, and misses a file that goes without a record."""
    with tempfile.TemporaryDirectory(prefix="claviger-archive-") as archive:
        variables = {"CLAVIGER_AUDIT__KEEP__BYTES": "3MiB", "CLAVIGER_AUDIT__ARCHIVE__FOLDER": archive}
        with Gateway(binary, variables) as gateway:
            gateway.with_tenant(TENANT, "orders")
            items = [{"key": "orders", "plaintext": False}] * 250
            # The files have 1, 2 and 4 MiB: 3 MiB follow the first, and less follows the second.
            while len(content(gateway)) < 4.3 * 2**20:
                gateway.call("POST", "/v1/batch/data-keys", {"items": items}, tenant=TENANT)
            until = time.monotonic() + 60
            while (gateway.data / "audit-00000000000000000000.log").exists():
                assert time.monotonic() < until, "the oldest file stays"
                time.sleep(0.1)
            gateway.stop()
            left = read(gateway.data)
            files = sorted(gateway.data.glob("audit-*.log"))
            assert len(files) > 1, "too much is gone"
            [folder] = pathlib.Path(archive).glob("*/*")
            for file in folder.iterdir():
                shutil.copy(file, gateway.data)
            whole = read(gateway.data)
            assert whole[-len(left) :] == left and len(whole) > len(left), "the archive does not continue in the folder"
            told = [record["removed"] for record in whole if "removed" in record]
            assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())] == [removed["sha256"] for removed in told]
            for file in [*folder.iterdir(), pathlib.Path(files[0].name)]:
                (gateway.data / file.name).unlink()
            assert "no record says that they were removed" in refusal(gateway.data), "a missing file is not noticed"
            # The archive has closed files alone.
            assert "files are missing behind" in refusal(folder), "that the last file is missing is not noticed"
            assert read(folder, part=True) == whole[: len(whole) - len(left)], "a part is read otherwise"
            last = [str(gateway.data / files[-1].name), "part"]
            done = subprocess.run([sys.executable, audit_reader.__file__, *last], check=True, capture_output=True, text=True)
            assert json.loads(done.stdout.splitlines()[-1]) == left[-1] and "a part of a log" in done.stderr, done.stderr
    return left


def read(path, part=False):
    return list(audit_reader.read(audit_reader.Log(path), part))


def content(gateway):
    """The bytes of a gateway's log, without the zeros at its end."""
    log = audit_reader.Log(gateway.data)
    return log.read(log.begin, log.end - log.begin).rstrip(b"\0")


def refusal(path):
    """Why the reader does not read the log to its end."""
    try:
        read(path)
    except SystemExit as refused:
        return str(refused)
    return "nothing was refused"


def in_little_memory(folder):
    """A log of 512 MiB, most of it the zeros of its last file, is read in less memory."""
    [file] = folder.glob("audit-*.log")
    os.truncate(file, 2**29)
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
    done = subprocess.run([sys.executable, audit_reader.__file__, folder], preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def without_lost_part(binary):
    """The records that are left where numbers jumped in a lost part that was removed since: of a tenant with records
    behind it, of one without, and of one that the log knew nothing of."""
    with Gateway(binary, {"CLAVIGER_AUDIT__KEEP__BYTES": "64KiB"}) as gateway:
        gateway.with_tenant(TENANT, "orders")
        gateway.with_tenant("quiet", "orders")
        gateway.kill()
        end = len(content(gateway))
        # Nothing tells how much was behind this.
        os.truncate(gateway.data / "audit-00000000000000000000.log", end - end // 4)
        gateway.serve("--accept-lost-log")
        items = [{"key": "orders", "plaintext": False}] * 250
        until = time.monotonic() + 60
        while (gateway.data / "audit-00000000000000000000.log").exists():
            assert time.monotonic() < until, "the lost part stays"
            gateway.call("POST", "/v1/batch/data-keys", {"items": items}, tenant=TENANT)
        gateway.with_tenant("new", "orders")
        gateway.call("GET", "/v1/keys", tenant="quiet")
        gateway.stop()
        assert audit_reader.Log(gateway.data).begin > end, "the lost part is still there"
        records = read(gateway.data)
    first = {}
    for record in records:
        first.setdefault(record["tenant"], record["sequence"])
    jumped = [number for number in first.values() if number >= 2**20]
    assert len(jumped) >= 3, f"no numbers jumped: {first}"
    return records


def misused():
    """Without a folder, or with one that does not exist or has no log, the reader prints its usage."""
    here = os.path.dirname(audit_reader.__file__)
    for arguments in ([], ["absent"], ["absent", "cals"], [here], [audit_reader.__file__]):
        command = [sys.executable, audit_reader.__file__, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and "usage:" in done.stderr, f"{arguments}: {done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr


if __name__ == "__main__":
    main(sys.argv[1])
