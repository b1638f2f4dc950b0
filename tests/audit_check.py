#!/usr/bin/env python3
"""Reads a real gateway's audit log with the reader of docs/audit-format.md:
python3 audit_check.py BINARY

The reader stops on damage and on a gap in a tenant's sequence numbers. The records must have
each answered operation once and in order, across a SIGKILL, and no byte of a data key. The
embedded provider calls no other service, so no record may have a provider call.
"""

import base64
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
        log = (gateway.data / "audit.log").read_bytes()

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
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main(sys.argv[1])
