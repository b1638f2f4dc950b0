"""Reads an audit log from its documentation alone: python3 audit_reader.py FOLDER [calls]

Prints one JSON object a line: every record, or with `calls` every call to a provider. Exits
with code 1 if an acknowledged record is damaged. A commit that a crash tore at the end is
reported on standard error, and is no damage.
"""
import json, os, re, struct, sys

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

class Log(bytes):
    """The contents of all files of a log in a row. Offsets in it count from the position `begin`."""
    begin = 0

def load(folder):
    """The log in a folder. What is missing between two files is zeros."""
    names = (re.fullmatch(r"audit(-\d{20})?\.log", name) for name in os.listdir(folder))
    files = sorted((int((name[1] or "-0")[1:]), name[0]) for name in names if name)
    begin, log = files[0][0] if files else 0, bytearray()
    for start, name in files:
        # A closed file ends where the next one begins.
        log = log[: start - begin].ljust(start - begin, b"\0")
        with open(os.path.join(folder, name), "rb") as file:
            log += file.read()
    log = Log(log)
    log.begin = begin
    return log

def header(log, at):
    """(installation, node, offset of the first frame) of the header line at that offset, or None."""
    words, position = log[at : at + 160].split(b"\n")[0].decode(errors="replace").split(" "), log.begin + at
    if words[:1] + words[3:] == ["claviger-audit-log/2", str(position)] or words[0] == "claviger-audit-log/1" and position == 0:
        return words[1], words[2], at + len(" ".join(words)) + 1

def frame(log, at):
    """(JSON bytes, first of a commit) of the frame at that offset, or None."""
    length, check = struct.unpack_from(">II", log, at) if at + 8 <= len(log) else (0, 0)
    body = log[at + 8 : at + 8 + (length & 0x7FFFFFFF)]
    whole = 0 < len(body) == length & 0x7FFFFFFF <= 60_000 and body[:1] == b"{"
    return (body, length >> 31 == 1) if whole and crc32c(body) == check else None

def skip(log, at):
    """The offset at which the log goes on, if a lost part begins at this one."""
    prefix, check, to = struct.unpack_from(">IIQ", log, at) if at + 16 <= len(log) else (0, 0, 0)
    whole = prefix == 0x40000008 and to >= log.begin + at + 16 and crc32c(log[at + 8 : at + 16]) == check
    return to - log.begin if whole else None

def read(log):
    """Every record of the log, in order."""
    assert header(log, 0), "not an audit log of these versions"
    installation, node, at = header(log, 0)
    numbers, lost = {}, None
    # Where files were removed: the numbers with which the tenants begin here, what the records of the
    # removal say of them, and whether these were found.
    begins, removal, said, first, proven = {}, None, {}, 0, log.begin == 0
    while True:
        if begun := header(log, at):
            assert begun[:2] == (installation, node), f"the file at byte {log.begin + at} is of another log"
            at = begun[2]
            continue
        if to := skip(log, at):
            print(f"bytes {log.begin + at} to {log.begin + to} are lost", file=sys.stderr)
            # From here on the numbers may begin later: those between were of lost records.
            numbers, lost, at = {}, (lost or {}) | numbers, to
            continue
        if not (found := frame(log, at)):
            break
        record = json.loads(found[0])
        tenant = record["tenant"]
        assert (record["v"], record["installation"], record["node"]) == (1, installation, node)
        if tenant not in numbers and lost is None and not proven:
            whole, begins[tenant] = True, record["sequence"]
        elif lost is None or tenant in numbers:
            whole = record["sequence"] == numbers.get(tenant, first)
        else:
            whole = record["sequence"] >= lost.get(tenant, first)
        assert whole, f"a record is missing before byte {log.begin + at}"
        numbers[tenant] = record["sequence"] + 1
        if removed := record.get("removed"):
            said = (said if removal == removed["to"] else {}) | removed["next"]
            removal = removed["to"]
            if removal == log.begin and not removed.get("more"):
                proven, first = True, removed.get("first", 0)
                assert all(said.get(name, first) == found for name, found in begins.items()), f"a record is missing after byte {removal}"
                numbers, lost = (said | numbers, None) if lost is None else (numbers, said | lost)
        yield record
        at += 8 + len(found[0])
    marks = (at + mark.start() for mark in re.finditer(rb"\x80\x00|claviger-audit-log/2 |@\x00\x00\x08", log[at:]))
    if any((frame(log, n) or (b"", False))[1] or header(log, n) or skip(log, n) for n in marks):
        sys.exit(f"damaged at byte {log.begin + at}: acknowledged records follow")
    if not proven:
        sys.exit(f"files are missing before byte {log.begin}: no record says that they were removed")
    if torn := len(log[at:].rstrip(b"\0")):
        print(f"{torn} bytes of a torn commit at the end", file=sys.stderr)

def calls(records):
    """Every call to a provider, to match with the provider's own log."""
    for record in records:
        known = {name: record[name] for name in ("tenant", "sequence", "time", "connection") if name in record}
        for call in record.get("provider_calls", []):
            yield {**known, **call}
        if omitted := record.get("provider_calls_omitted"):
            yield {**known, "omitted": omitted}

def usage(why):
    sys.exit(f"{why}\nusage: python3 audit_reader.py FOLDER [calls]\nFOLDER is the gateway's data folder, or a copy of it")

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["calls"]):
        usage("expected a folder, and at most the word calls")
    try:
        log = load(sys.argv[1])
    except OSError as error:
        usage(f"{sys.argv[1]}: {error.strerror}")
    if not log:
        usage(f"{sys.argv[1]} has no audit log")
    records = read(log)
    for line in calls(records) if sys.argv[2:] == ["calls"] else records:
        print(json.dumps(line, ensure_ascii=False))
