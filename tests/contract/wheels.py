"""Checks that no file is in two of the wheels that are named as arguments.

`make wheel` runs it. If two installed wheels have the same file, one has replaced the
other's, and uninstalling one breaks the other.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile


def shared(wheels: Sequence[Path]) -> list[str]:
    """Return the names of files that are in more than one wheel."""
    names: Counter[str] = Counter()
    for wheel in wheels:
        with ZipFile(wheel) as archive:
            names.update(archive.namelist())
    return sorted(name for name, count in names.items() if count > 1)


def main(arguments: Sequence[str]) -> int:
    """Print the shared files; return 1 if there are any."""
    names = shared([Path(each) for each in arguments])
    for name in names:
        sys.stderr.write(f"in more than one wheel: {name}\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
