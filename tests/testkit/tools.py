"""The programs that tests use if they are installed. In CI they must be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

BUILD = Path(__file__).parents[2] / "build"
DEPLOY_TOOLS = BUILD / "deploy-tools"
NEWEST_TOOLS = BUILD / "tools"
PATH = f"{DEPLOY_TOOLS}:{NEWEST_TOOLS}:{os.environ['PATH']}"


def require(name: str, *, path: str | Path = PATH) -> Path:
    """Return where a program is; without it skip the test, or fail it in CI.

    By default, look for it where this repository's make targets install it, and then
    on the PATH.
    """
    found = shutil.which(name, mode=os.F_OK, path=str(path))
    if found is None:
        missing(
            f"{name} isn't installed; if it isn't a part of the system, `make tools`,"
            " `make deploy-tools` or `make validator` installs it"
        )
    return Path(found)


def missing(reason: str) -> NoReturn:
    """Skip the test, as the machine lacks what it needs; fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
