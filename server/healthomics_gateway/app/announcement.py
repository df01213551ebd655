"""Logs what a gateway serves, and which of its settings may be a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import structlog

from healthomics_gateway.app.reload_change import MAX_WARNINGS
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.effective import warnings
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.schema import Settings

_log = structlog.get_logger("app")


def announce(
    settings: Settings,
    *,
    addresses: Sequence[Address | UnixPath],
    admin_address: Address,
    workers: int | None = None,
) -> None:
    """Log the addresses, and the first questionable settings.

    `addresses` has those of all listeners in order, with their real ports. `workers`
    is the number of processes behind them, if there are several.
    """
    for each in listeners_of(settings):
        if each.files is None and not each.address.is_loopback:
            _log.warning("serving_plaintext", address=str(each.address))
    own, *others = (str(each) for each in addresses)
    more: dict[str, Any] = {"listeners": others} if others else {}
    if workers:
        more["workers"] = workers
    _log.info("serving", address=own, admin_address=str(admin_address), **more)
    for warning in islice(warnings(settings), MAX_WARNINGS):
        _log.warning("questionable_setting", why=warning)
