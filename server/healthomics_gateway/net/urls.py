"""URLs as they may be shown and logged."""

from __future__ import annotations

import re

MASK = "***"
# A password may contain any character, so all up to the last @ is masked.
_USER = re.compile(r"://.*@", re.DOTALL)
_REST = re.compile(r"(://[^?#]*[?#]).*", re.DOTALL)  # the query and the fragment


def masked_url(text: str) -> str:
    """Return a text without the secrets of the URL that it may be.

    These are the user and the password, the query, and the fragment.
    """
    return _REST.sub(rf"\1{MASK}", _USER.sub(f"://{MASK}@", text))
