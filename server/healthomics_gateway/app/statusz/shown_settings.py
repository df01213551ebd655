"""The effective settings as the status page shows them, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from healthomics_gateway.app.statusz.shape import Setting
from healthomics_gateway.settings.effective import rows
from healthomics_gateway.settings.load import Loaded
from healthomics_gateway.settings.schema import Settings

MAX_TEXT = 500  # characters of a value
HIDDEN = "(hidden)"
_IDENTITY = re.compile(r"(callers|listeners)\[\d+\]\.identity")
_QUERY = re.compile(r"(://[^?]*\?).*")  # of a URL; it may have a key


def shown_settings(settings: Settings) -> Iterator[Setting]:
    """Yield each setting in effect.

    What `healthomics-gateway settings` masks is masked here too. A role has no account,
    and identities are hidden unless `statusz.identities` is set.
    """
    defaults = {name: value for name, value, _ in rows(Loaded(Settings(), {}))}
    for name, value, _ in rows(Loaded(settings, {})):
        if _IDENTITY.fullmatch(name) and not settings.statusz.identities:
            shown = HIDDEN
        elif name.endswith(".aws_role"):
            shown = value.rpartition(":")[2]
        else:
            shown = masked_url(value)
        is_default = defaults.get(name) == value
        yield Setting(name=name, value=clipped(shown), is_default=is_default)


def masked_url(text: str) -> str:
    """Return a text without the user and the query of the URL that it may be."""
    return _QUERY.sub(r"\1***", re.sub(r"//[^/]*@", "//***@", text))


def clipped(text: str) -> str:
    """Return a text of a bounded length."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
