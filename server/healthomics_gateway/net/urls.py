"""URLs as they may be shown."""

from __future__ import annotations

import re

_USER = re.compile(r"//[^/]*@")


def without_user(text: str) -> str:
    """Return a text without the user and password of the URL that it may be."""
    return _USER.sub("//***@", text)
