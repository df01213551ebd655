"""The Lua scripts, each of which is a method of the store, by the server's clock."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from healthomics_gateway.shared import adaptive_rate, store

MAX_MEMBERS = 4096  # replicas at a key; more are an error
# Numbers that the scripts use too, by their names there.
_NUMBERS = {
    "ALIVE": store.ALIVE_SECONDS,
    "FORGET": store.FORGET_SECONDS,
    "PRESENT": store.PRESENT_SECONDS,
    "SETTLE": store.SETTLE_SECONDS,
    "MAX_MEMBERS": MAX_MEMBERS,
    "CUT": adaptive_rate.CUT,
    "CUT_EVERY": adaptive_rate.CUT_EVERY_SECONDS,
    "RECOVERY": adaptive_rate.RECOVERY_SECONDS,
    "LEAST_TPS": adaptive_rate.LEAST_TPS,
}
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
    numbers = (f"local {each} = {value}" for each, value in _NUMBERS.items())
    text = "\n".join([head, *numbers, *parts])
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
