"""Completion in a shell, by argcomplete's protocol, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BESIDE = Path(sys.executable).parent  # where the programs are installed
PROGRAM = str(BESIDE / "healthomics-gateway")
COVERAGE = {name: text for name, text in os.environ.items() if name.startswith("COV")}
IN_BASH = """
eval "$(register-python-argcomplete healthomics-gateway)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete healthomics-gateway
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completions_of(line: str, folder: Path) -> list[str]:
    """Return the completions of a line, which begins with the program's name."""
    file = folder / "completions"
    text = f"healthomics-gateway {line}"
    done = subprocess.run(
        [PROGRAM],
        env={
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "COMP_LINE": text,
            "COMP_POINT": str(len(text)),
        }
        | COVERAGE,
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert (b"", b"") == (done.stdout, done.stderr)
    return file.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("s", ["serve", "settings", "sandbox"], id="commands"),
        pytest.param("check --", ["--help", "--config", "--json"], id="flags"),
        pytest.param("get 1 --export ", ["DEFINITION"], id="words-of-a-choice"),
        pytest.param("serve --config g", ["gateway.toml"], id="files"),
        pytest.param("get 1 --tls-ca g", ["gateway.toml"], id="files-of-a-client"),
        pytest.param("serve --listen g", [], id="no-files-for-an-address"),
        pytest.param("check g", [], id="no-files-for-an-id"),
    ],
)
def test_words_are_completed(line: str, expected: list[str], tmp_path: Path) -> None:
    """Commands, flags, words and files are completed where they are meant."""
    (tmp_path / "gateway.toml").touch()

    assert expected == completions_of(line, tmp_path)


def test_bash_completes_with_the_function_of_the_guide() -> None:
    """The function that the guide's line defines asks the program."""
    done = subprocess.run(
        ["/bin/bash", "-c", IN_BASH, "bash", "healthomics-gateway check --c"],
        env={"PATH": f"{BESIDE}:{os.environ['PATH']}"} | COVERAGE,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    assert "--config" == done.stdout.strip()
