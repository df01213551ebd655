"""The effective settings as the status page shows them, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from healthomics_gateway.app.statusz.bounds import clipped
from healthomics_gateway.app.statusz.shape import Setting
from healthomics_gateway.settings.effective import rows
from healthomics_gateway.settings.load import Loaded
from healthomics_gateway.settings.schema import Settings

HIDDEN = "(hidden)"
_IDENTITY = re.compile(r"(callers|listeners)\[\d+\]\.identity")


def shown_settings(settings: Settings) -> Iterator[Setting]:
    """Yield each setting in effect, without reading the files that some of them name.

    They could be read at the start, so no path is a key that was pasted by mistake.
    What `healthomics-gateway settings` masks is masked here too. A role has no account,
    and identities are hidden with `statusz.identities = false`.
    """
    defaults = {
        name: value
        for name, value, _ in rows(Loaded(Settings(), {}), is_file=_was_file)
    }
    for name, value, _ in rows(Loaded(settings, {}), is_file=_was_file):
        if _IDENTITY.fullmatch(name) and not settings.statusz.identities:
            shown = HIDDEN
        elif name.endswith(".aws_role"):
            shown = value.rpartition(":")[2]
        else:
            shown = value
        is_default = defaults.get(name) == value
        yield Setting(name=name, value=clipped(shown), is_default=is_default)


def _was_file(_path: Path) -> bool:
    return True
