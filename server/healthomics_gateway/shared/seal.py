"""Names of entries, and values that only the holders of the secret can write."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

VERSION = 1  # of the names and of the values' format; another is ignored
_HEAD = VERSION.to_bytes()
_TAG_BYTES, _TIME_BYTES = 32, 8
_NAME_DIGITS = 32  # hexadecimal


class Opened(NamedTuple):
    """The content of a sealed value."""

    payload: bytes
    age_seconds: float  # by the clocks of the two machines; see `Sealer.open`


class Sealer:
    """Derives names from, and authenticates values with, one secret.

    A value is valid only for the name and the field that it was sealed for: one that
    was copied elsewhere isn't. It is authenticated, not encrypted.
    """

    def __init__(
        self, secret: bytes, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Derive a key for each purpose from `secret`; `wall_clock` is in Unix time."""
        self._of_names = _mac(secret, [b"names", _HEAD])
        self._of_values = _mac(secret, [b"values", _HEAD])
        self._wall_clock = wall_clock

    def name(self, kind: str, *parts: str) -> str:
        """Return the name of something of a kind; different parts give another one."""
        mac = _mac(self._of_names, [kind.encode(), *(each.encode() for each in parts)])
        return mac.hex()[:_NAME_DIGITS]

    def seal(self, name: str, field: str, payload: bytes) -> bytes:
        """Return the value for a field of an entry; it contains the present time."""
        at = round(self._wall_clock() * 1000).to_bytes(_TIME_BYTES)
        return _HEAD + self._tag(name, field, at, payload) + at + payload

    def open(self, name: str, field: str, value: bytes) -> Opened | None:
        """Return the content of a value of this field, or None if it isn't valid.

        One from the future was sealed by a clock that is ahead: its age is the
        difference, because an old one that is written again would always be new.
        """
        start = len(_HEAD) + _TAG_BYTES
        tag, at = value[len(_HEAD) : start], value[start : start + _TIME_BYTES]
        payload = value[start + _TIME_BYTES :]
        if not value.startswith(_HEAD) or len(at) < _TIME_BYTES:
            return None
        if not hmac.compare_digest(tag, self._tag(name, field, at, payload)):
            return None
        age_seconds = self._wall_clock() - int.from_bytes(at) / 1000
        return Opened(payload, abs(age_seconds))

    def _tag(self, name: str, field: str, at: bytes, payload: bytes) -> bytes:
        return _mac(self._of_values, [name.encode(), field.encode(), at, payload])


def _mac(key: bytes, parts: Iterable[bytes]) -> bytes:
    """Return the HMAC of the parts, each with its length."""
    mac = hmac.new(key, digestmod="sha256")
    for part in parts:
        mac.update(len(part).to_bytes(8))
        mac.update(part)
    return mac.digest()
