#!/usr/bin/env python3
"""Reads a real gateway's audit log with the reader of docs/audit-format.md:
python3 audit_check.py BINARY

The reader stops on damage and on a gap in a tenant's sequence numbers. The records must have
each answered operation once and in order, across a SIGKILL, and no byte of a data key. After a
cut in the middle the reader goes on behind the lost part. The
embedded provider calls no other service, so no record may have a provider call.
"""

import base64
import os
import subprocess
import sys

import audit_reader
from gateway import Gateway

TENANT = "acme"


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
        log = audit_reader.load(gateway.data)

    records = list(audit_reader.read(log))
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
    misused()
    print("3 passed, 0 failed")


def lost_part(binary):
    """The records that are left of a log that was cut in the middle."""
    with Gateway(binary) as gateway:
        gateway.with_tenant(TENANT, "orders")
        for _ in range(30):
            gateway.call("POST", "/v1/keys/orders/data-keys", {}, tenant=TENANT)
        log = audit_reader.load(gateway.data)
        before = list(audit_reader.read(log))
        # Without the zeros at its end.
        os.truncate(gateway.data / "audit-00000000000000000000.log", len(log.rstrip(b"\0")) // 2)
        gateway.call("POST", "/v1/keys/orders/rotate", None, tenant=TENANT)
        gateway.stop()
        log = audit_reader.load(gateway.data)
    records = list(audit_reader.read(log))
    left = len([record for record in records if record in before])
    assert len(before) // 3 < left < len(before), f"{left} of {len(before)} records are left"
    assert [record["cause"] for record in records if record["kind"] == "restarted"] == ["log_lost"]
    assert any(record["operation"] == "Rotate" for record in records), "a record after the loss is missing"
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
