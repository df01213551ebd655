"""URLs as they may be shown and logged."""

from __future__ import annotations

import re

MASK = "***"
_REST = re.compile(r"([^?#]*)([?#]?)(.*)", re.DOTALL)  # the last is a query or fragment


def masked_url(text: str) -> str:
    """Return a text without the secrets of the URL that it may be.

    These are the user and the password, the query, and the fragment. As a password may
    contain any character, nothing is shown of a URL with an @ in its query or fragment.
    """
    scheme, separator, rest = text.partition("://")
    parts = _REST.fullmatch(rest)
    if not separator or parts is None:
        return text
    place, mark, secret = parts.groups()
    if "@" in secret:
        return f"{scheme}://{MASK}"
    if "@" in place:
        place = f"{MASK}@{place.rpartition('@')[2]}"
    return f"{scheme}://{place}{mark}{MASK if mark else ''}"
