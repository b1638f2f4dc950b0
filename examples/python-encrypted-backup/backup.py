"""Back up a folder, each file encrypted with a data key of its own.

python3 backup.py save FOLDER BACKUP       encrypts each file of FOLDER into BACKUP
python3 backup.py restore BACKUP FOLDER    decrypts each file of BACKUP into FOLDER
"""

import argparse
import sys
from pathlib import Path

from claviger_client import CiphertextRejectedError, ClavigerError, Client, FileError, InvalidEnvelopeError, files

KEY = "backups"
SUFFIX = ".clv"


def context(name: str) -> dict[str, str]:
    """Bind a file to its name, so that it does not open as another file."""
    return {"file": name}


def save(claviger: Client, folder: Path, backup: Path) -> None:
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = source.relative_to(folder).as_posix()
        target = backup / (name + SUFFIX)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.encrypt_file(claviger, KEY, source, target, context=context(name))
        print(f"saved {name}")


def restore(claviger: Client, backup: Path, folder: Path) -> int:
    """Return how many files do not open. The others are restored."""
    failed = 0
    for source in sorted(backup.rglob("*" + SUFFIX)):
        name = source.relative_to(backup).as_posix().removesuffix(SUFFIX)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.decrypt_file(claviger, source, target, context=context(name), key=KEY)
        except (FileError, CiphertextRejectedError, InvalidEnvelopeError) as error:
            # The fault of this file. Any other error, such as a disabled key, concerns all of them and ends the program.
            print(f"not restored: {name}: {error}", file=sys.stderr)
            failed += 1
        else:
            print(f"restored {name}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Back up a folder, each file encrypted with a data key of its own.")
    parser.add_argument("command", choices=["save", "restore"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    if not arguments.source.is_dir():
        parser.error(f"{arguments.source} is no folder")
    try:
        with Client.from_env() as claviger:
            if arguments.command == "save":
                save(claviger, arguments.source, arguments.target)
                return 0
            return 1 if restore(claviger, arguments.source, arguments.target) else 0
    except (ClavigerError, OSError) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
