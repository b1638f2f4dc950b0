"""Reads an audit log from its documentation alone: python3 audit_reader.py FOLDER [calls] [part]

Prints one JSON object a line: every record, or with `calls` every call to a provider. Exits
with code 1 if an acknowledged record is damaged or a file is missing; with `part`, files before
the first and behind the last one may be missing, and FOLDER may be one file. A commit that a
crash tore at the end is reported on standard error, and is no damage.
"""
import array, json, os, re, struct, sys

PIECE = 1 << 20  # what is read from the disk at once, in bytes
MARK = re.compile(rb"\x80\x00|claviger-audit-log/2 |@\x00\x00\x08")

def table(shift):
    """For each number of 16 bits, shifted to the left: its checksum's state after four bytes."""
    states = [0]
    for bit in range(16):
        state = 1 << bit + shift
        for _ in range(32):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        states += [state ^ other for other in states]
    return array.array("I", states)  # a list of numbers would not fit the processor's caches

LOW, HIGH = table(0), table(16)

def crc32c(data):
    crc, whole = 0xFFFFFFFF, len(data) & ~3
    # Four bytes a step: this loop takes most of the reader's time.
    for word in struct.unpack(f"<{whole // 4}I", data[:whole]):
        crc ^= word
        crc = LOW[crc & 0xFFFF] ^ HIGH[crc >> 16]
    for byte in data[whole:]:
        crc = crc >> 8 ^ HIGH[((crc ^ byte) & 0xFF) << 8]
    return crc ^ 0xFFFFFFFF

class Log:
    """The files of a log in a row, or one of them. `at` is a position in the log. One piece is in memory."""

    def __init__(self, path):
        folder, names = (path, os.listdir(path)) if os.path.isdir(path) else (os.path.dirname(path), [os.path.basename(path)])
        names = filter(None, (re.fullmatch(r"audit(-\d{20})?\.log", name) for name in names))
        self.files = sorted((int((name[1] or "-0")[1:]), os.path.join(folder, name[0])) for name in names)
        self.begin, self.end, self.at, self.piece = 0, 0, 0, b""
        if self.files:
            self.begin, self.end = self.files[0][0], self.files[-1][0] + os.path.getsize(self.files[-1][1])

    def read(self, at, size):
        """The bytes from `at` on, fewer at the log's end."""
        size = max(0, min(size, self.end - at))
        if not self.at <= at <= at + size <= self.at + len(self.piece):
            self.at, self.piece = at, self.load(at, min(max(size, PIECE), self.end - at))
        return self.piece[at - self.at : at - self.at + size]

    def load(self, at, size):
        # What is missing between two files is zeros. A closed file ends where the next one begins.
        piece = bytearray(size)
        for (start, path), (stop, _) in zip(self.files, [*self.files[1:], (self.end, "")]):
            first, last = max(at, start), min(at + size, stop)
            if first < last:
                with open(path, "rb") as file:
                    file.seek(first - start)
                    found = file.read(last - first)
                piece[first - at : first - at + len(found)] = found
        return bytes(piece)

def header(log, at):
    """(installation, node, position of the first frame) of the header line at that position, or None."""
    words = log.read(at, 160).split(b"\n")[0].decode(errors="replace").split(" ")
    if words[:1] + words[3:] == ["claviger-audit-log/2", str(at)] or words[0] == "claviger-audit-log/1" and at == 0:
        return words[1], words[2], at + len(" ".join(words)) + 1

def frame(log, at):
    """(JSON bytes, first of a commit) of the frame at that position, or None."""
    prefix = log.read(at, 8)
    length, check = struct.unpack(">II", prefix) if len(prefix) == 8 else (0, 0)
    size = length & 0x7FFFFFFF
    body = log.read(at + 8, size) if 0 < size <= 60_000 else b""
    return (body, length >> 31 == 1) if body[:1] == b"{" and len(body) == size and crc32c(body) == check else None

def skip(log, at):
    """The position at which the log goes on, if a lost part begins at this one."""
    found = log.read(at, 16)
    prefix, check, to = struct.unpack(">IIQ", found) if len(found) == 16 else (0, 0, 0)
    return to if prefix == 0x40000008 and to >= at + 16 and crc32c(found[8:]) == check else None

def rest(log, at):
    """(whether a later commit follows, length without the zeros at the end) of what is behind the last whole frame."""
    length = 0
    for start in range(at, log.end, PIECE):
        piece = log.read(start, PIECE + 32)
        if written := len(piece.rstrip(b"\0")):
            length = start + written - at
        marks = (start + mark.start() for mark in MARK.finditer(piece))
        if any((frame(log, n) or (b"", False))[1] or header(log, n) or skip(log, n) for n in marks):
            return True, length
    return False, length

def read(log, part=False):
    """Every record of the log, in order."""
    assert header(log, log.begin), "not an audit log of these versions"
    installation, node, at = header(log, log.begin)
    numbers, lost = {}, None
    # Where files were removed: the numbers with which the tenants begin here, what the records of the
    # removal say of them, and whether these were found.
    begins, removal, said, first, proven = {}, None, {}, 0, log.begin == 0
    while True:
        if not (found := frame(log, at)):
            if begun := header(log, at):
                assert begun[:2] == (installation, node), f"the file at byte {at} is of another log"
                at = begun[2]
                continue
            if to := skip(log, at):
                print(f"bytes {at} to {to} are lost", file=sys.stderr)
                # From here on the numbers may begin later: those between were of lost records.
                numbers, lost, at = {}, (lost or {}) | numbers, to
                continue
            follows, torn = rest(log, at)
            log.piece = b""
            if follows and (frame(log, at) or header(log, at) or skip(log, at)):
                continue  # the gateway wrote on meanwhile
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
        assert whole, f"a record is missing before byte {at}"
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
    if follows:
        sys.exit(f"damaged at byte {at}: acknowledged records follow")
    if torn:
        print(f"{torn} bytes of a torn commit at the end", file=sys.stderr)
    if part:
        print(f"a part of a log: bytes {log.begin} to {at}", file=sys.stderr)
    elif not proven:
        sys.exit(f"files are missing before byte {log.begin}: no record says that they were removed (to read a part of a log, add the word part)")
    elif not log.files[-1][1].endswith("audit.log") and log.read(log.end - 16, 16).strip(b"\0"):
        sys.exit(f"files are missing behind byte {at}: the last one ends like one that another follows (to read a part of a log, add the word part)")

def calls(records):
    """Every call to a provider, to match with the provider's own log."""
    for record in records:
        known = {name: record[name] for name in ("tenant", "sequence", "time", "connection") if name in record}
        for call in record.get("provider_calls", []):
            yield {**known, **call}
        if omitted := record.get("provider_calls_omitted"):
            yield {**known, "omitted": omitted}

def usage(why):
    sys.exit(f"{why}\nusage: python3 audit_reader.py FOLDER [calls] [part]\nFOLDER is the gateway's data folder, or a copy of it; with part, it may be one file")

if __name__ == "__main__":
    path, words = (sys.argv[1:] or [""])[0], sys.argv[2:]
    if not path or set(words) - {"calls", "part"} or os.path.isfile(path) and "part" not in words:
        usage("expected a folder, and at most the words calls and part")
    try:
        log = Log(path)
    except OSError as error:
        usage(f"{path}: {error.strerror}")
    if not log.files:
        usage(f"{path} has no audit log")
    records = read(log, "part" in words)
    for line in calls(records) if "calls" in words else records:
        print(json.dumps(line, ensure_ascii=False))
