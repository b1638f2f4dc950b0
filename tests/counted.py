"""For pytest (`-p counted`): the line that tests/run counts."""


def pytest_terminal_summary(terminalreporter):
    found = {name: len(terminalreporter.stats.get(name, ())) for name in ("passed", "failed", "error", "skipped")}
    # No test passes by skipping.
    failed = found["failed"] + found["error"] + found["skipped"]
    terminalreporter.write_line(f"{found['passed']} passed, {failed} failed")
