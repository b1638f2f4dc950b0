"""Pages in Markdown: the commands that they show, and their links."""

import re
import subprocess


def commands(page):
    """The blocks that begin with ```sh test."""
    return re.findall(r"^```sh test\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def run_commands(blocks, folder, environment, limit):
    """Runs blocks in one shell, which stops at the first command that fails. Returns its output and whether it came to its end.

    limit: seconds.
    """
    # What a block started in the background ends with the shell.
    script = "set -euo pipefail\ntrap 'jobs -p | xargs -r kill; wait' EXIT\n" + "\n".join(blocks)
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        return f"{(error.stdout or b'').decode(errors='replace')}\nnot done after {limit} s", False
    return f"{done.stdout}exit code {done.returncode}", done.returncode == 0


def dead_links(page):
    """The targets of links to files that do not exist."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")) and not (page.parent / target).exists():
            yield target
