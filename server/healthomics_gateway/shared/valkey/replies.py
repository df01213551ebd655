"""Reads the replies to the store's commands, which other programs may answer too.

Each function raises StoreError if a reply isn't one of the script.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from healthomics_gateway.shared.store import (
    Claim,
    Members,
    Permit,
    Reservation,
    Stored,
    StoreError,
)
from healthomics_gateway.shared.valkey.scripts import MAX_MEMBERS


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise StoreError("its answer isn't understood") from None


@_understood()
def members(reply: Any) -> Members:
    """Return the reply of `beat`."""
    expected, was_known, *attached = reply
    if not 1 <= int(expected) <= MAX_MEMBERS:
        raise ValueError
    # Another id than a replica's may be anything.
    ids = frozenset(each.decode(errors="replace") for each in attached)
    return Members(ids, int(expected), bool(was_known))


@_understood()
def reservation(reply: Any) -> Reservation:
    """Return the reply of `reserve`."""
    if reply is None:
        raise StoreError("it doesn't know this replica")
    wait_seconds, tps, is_other = map(_number, reply)
    if not tps:
        raise ValueError
    return Reservation(wait_seconds, tps, bool(is_other))


@_understood()
def permit(reply: Any) -> Permit:
    """Return the reply of `take`."""
    granted, wait_seconds = reply
    return Permit(int(granted), _number(wait_seconds))


@_understood()
def stored(reply: Any) -> Stored | None:
    """Return the reply of `read`."""
    if reply is None:
        return None
    value, age_seconds = reply
    if not isinstance(value, bytes):
        raise TypeError
    return Stored(value, _number(age_seconds))


@_understood()
def claim(reply: Any) -> Claim:
    """Return the reply of `claim`."""
    holder, last = reply
    return Claim(holder.decode(errors="replace"), stored(last))


@_understood()
def info(reply: Any) -> dict[str, str]:
    """Return the reply of `INFO`."""
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _number(text: bytes) -> float:
    """Return a number that isn't negative; raises ValueError."""
    value = float(text)
    if not 0.0 <= value < inf:
        raise ValueError
    return value
