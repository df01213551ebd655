"""The Lua scripts, each of which is a method of the store, by the server's clock."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

_FOLDER = files(__package__) / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest by which a server remembers it."""

    text: str
    sha: str


def script(name: str, *, needs_memory: bool = False) -> Script:
    """Return the script of a name.

    A server without free memory still runs it, unless it `needs_memory`.
    """
    head = "#!lua" if needs_memory else "#!lua flags=allow-oom"
    parts = [(_FOLDER / f"{each}.lua").read_text() for each in ("prelude", name)]
    text = "\n".join([head, *parts])
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
