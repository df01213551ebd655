"""The lowest level of the events that are logged."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

from healthomics_gateway.telemetry.log_lines import AUDIT

# At DEBUG botocore logs the session token and every body, and at INFO the source of the
# credentials each time that it looks for some, and that of an endpoint.
QUIETEST = {
    "boto3": logging.INFO,
    "botocore": logging.INFO,
    "botocore.configprovider": logging.WARNING,
    "botocore.credentials": logging.WARNING,
    "urllib3": logging.INFO,
}
_NUMBERS = logging.getLevelNamesMapping()


class LogLevel:
    """Drops the events of the gateway and of libraries that are below a level."""

    def __init__(self, level: str) -> None:
        """Start with `level`; the audit log's events pass at any level."""
        self._number = _NUMBERS[level.upper()]

    def set(self, level: str) -> None:
        """Change the level: `debug`, `info`, `warning` or `error`."""
        self._number = _NUMBERS[level.upper()]
        self.apply()

    def apply(self) -> None:
        """Set the levels of libraries' loggers."""
        logging.getLogger().setLevel(self._number)
        for name, quietest in QUIETEST.items():
            logging.getLogger(name).setLevel(max(self._number, quietest))

    def __call__(
        self, _logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return an event of the gateway, or drop it; a processor of structlog."""
        is_below = _NUMBERS[method.upper()] < self._number
        if is_below and event["event"] != AUDIT:
            raise structlog.DropEvent
        return event
