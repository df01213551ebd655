"""Generates the stubs of each language with its template, as `make stubs` does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from conformance.clients import CLIENTS, ROOT
from conformance.commands import run_command

TOOLS = {  # that a template needs
    "connect-go": ("go",),
    "csharp": ("grpc_csharp_plugin", "mvn"),
    "go": ("go",),
    "grpc-js": ("npx",),
    "java": ("mvn",),
    "kotlin": ("mvn", "java"),
    "python": (),
    "rust": ("cargo",),
    "typescript": ("npx",),
}
CALLS = ("GetRun", "getRun", "get_run")  # how stubs name the method
OPTIONAL = {"csharp"}  # its plugin must be installed by hand


def templates() -> list[str]:
    """Return the languages that have a template."""
    names = (file.name for file in (CLIENTS / "templates").glob("buf.gen.*.yaml"))
    return sorted(name.split(".")[2] for name in names)


def missing(language: str) -> Sequence[str]:
    """Return the programs of a template that aren't on PATH."""
    return [tool for tool in TOOLS[language] if not shutil.which(tool)]


async def generate(language: str) -> str:
    """Generate the stubs of a language; return what went wrong, or an empty string."""
    command = ("make", "--no-print-directory", "stubs", f"LANG={language}")
    code, output = await run_command(command, cwd=ROOT)
    if code:
        return f"`make stubs LANG={language}` exited {code}:\n{output}"
    files = [
        path for path in (ROOT / "build/stubs" / language).rglob("*") if path.is_file()
    ]
    if not any(call in file.read_text() for file in files for call in CALLS):
        return f"`make stubs LANG={language}` wrote no method GetRun"
    return ""
