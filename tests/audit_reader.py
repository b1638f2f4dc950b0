"""Reads an audit log from its documentation alone: python3 audit_reader.py FILE

Prints one JSON record a line. Exit code 1: damage before the last commit; what a crash
tore off at the end is told on standard error and is no damage.
"""
import json, struct, sys

def crc32c(data, table=[]):
    if not table:
        for n in range(256):
            for _ in range(8):
                n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
            table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF

def frame(log, at):
    """(JSON bytes, begins a commit) of the frame at that place, or None."""
    length, check = struct.unpack_from(">II", log, at) if at + 8 <= len(log) else (0, 0)
    body = log[at + 8 : at + 8 + (length & 0x7FFFFFFF)]
    whole = 0 < len(body) == length & 0x7FFFFFFF <= 60_000 and body[:1] == b"{"
    return (body, length >> 31 == 1) if whole and crc32c(body) == check else None

def read(log):
    at = log.index(b"\n") + 1
    magic, installation, node = log[:at].decode().split()
    assert magic == "claviger-audit-log/1", "not an audit log of this version"
    numbers = {}
    while found := frame(log, at):
        record = json.loads(found[0])
        assert (record["v"], record["installation"], record["node"]) == (1, installation, node)
        assert record["sequence"] == numbers.get(record["tenant"], 0), f"a record is missing before byte {at}"
        numbers[record["tenant"]] = record["sequence"] + 1
        yield record
        at += 8 + len(found[0])
    marks = (n for n in range(at + 1, len(log)) if log[n : n + 2] == b"\x80\0")
    if any((frame(log, n) or (b"", False))[1] for n in marks):
        sys.exit(f"damaged at byte {at}: acknowledged records follow")
    if at < len(log):
        print(f"{len(log) - at} bytes of a torn commit at the end", file=sys.stderr)

if __name__ == "__main__":
    for record in read(open(sys.argv[1], "rb").read()):
        print(json.dumps(record, ensure_ascii=False))
