"""Parses SPIFFE IDs and their trust domains."""

from __future__ import annotations

import re

SCHEME = "spiffe://"

# https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
_ID = re.compile(r"(spiffe://[a-z0-9._-]{1,255})(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*")


def is_spiffe_id(text: str) -> bool:
    """Return whether a text is a SPIFFE ID, with or without a path."""
    return _ID.fullmatch(text) is not None


def trust_domain_of(spiffe_id: str) -> str | None:
    """Return the trust domain as `spiffe://domain`, `None` if it isn't a SPIFFE ID."""
    found = _ID.fullmatch(spiffe_id)
    return found[1] if found else None
