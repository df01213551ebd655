"""Keeps the public keys that verify tokens up to date."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import structlog

from healthomics_gateway.auth.jwks import Key, KeySet, KeySetError, read_keys
from healthomics_gateway.auth.jwks_fetch import Read, file_reader, url_reader
from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.net.proxies import proxy_for
from healthomics_gateway.threads import in_thread

MAX_WAITING_FOR_KEYS, MAX_WAITING_OF_HOST = 256, 128  # calls that wait for a read
READ_SECONDS = 5.0  # for one read, and for a caller that waits for it
URL_REFRESH_SECONDS = 300.0
FILE_REFRESH_SECONDS = 5.0
MIN_PAUSE_SECONDS = 5.0  # after a failure; doubled after each further one
MAX_PAUSE_SECONDS = 60.0
UNKNOWN_PAUSE_SECONDS = 30.0  # between reads that unknown keys cause

_log = structlog.get_logger("keys")

Report: TypeAlias = Callable[[Reason | None], None]


class Keyring:
    """The keys of the last successful read.

    All callers that wait share one read. Unknown keys cause at most one read in 30 s.
    """

    def __init__(
        self,
        read: Read,
        *,
        refresh_seconds: float,
        report: Report = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start without keys; `read` returns a JWK set, or raises any exception.

        `report` is called with None when a read succeeds.
        """
        self._read = read
        self._report = report
        self._notify: Callable[[], None] = lambda: None
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._sleep = sleep
        self._set: KeySet | None = None
        self._raw: bytes | None = None  # the text of the set
        self._reading: asyncio.Task[None] | None = None
        self._waiting: Counter[str] = Counter()  # calls that wait for it, by host
        self._failures = 0  # since a read succeeded
        self._fault = ""  # of the last read
        self._read_at: float | None = None  # when the last one succeeded, by the clock
        self._due_at = self._unknown_due_at = float("-inf")  # by the clock

    def fault(self) -> str:
        """Return why the last read failed, or an empty string."""
        return self._fault

    @property
    def keys(self) -> KeySet | None:
        """The keys of the last successful read, None before it."""
        return self._set

    @property
    def new_seconds(self) -> float | None:
        """The seconds until the keys should have been read again; None without keys.

        They stay in use after that, until a read succeeds.
        """
        age = self.age_seconds
        return None if age is None else self._refresh_seconds - age

    @property
    def age_seconds(self) -> float | None:
        """The seconds since a read succeeded; None if none has yet."""
        return None if self._read_at is None else self._clock() - self._read_at

    @property
    def due_seconds(self) -> float:
        """The seconds until the next read."""
        return max(0.0, self._due_at - self._clock())

    def on_change(self, notify: Callable[[], None]) -> None:
        """Call `notify` whenever a read finds other keys."""
        self._notify = notify

    def holds(self, key: Key) -> bool:
        """Return whether the last set still has a key."""
        return self._set is not None and key in self._set.keys

    async def key(self, kid: str | None, alg: str, *, host: str = "") -> Key | None:
        """Return the key that verifies such a token, None if there is none.

        Waits for a read if it may find the key. Raises AUTH_BACKEND_UNAVAILABLE if no
        read has succeeded yet.
        """
        if self._set is None or self._set.lacks(kid, alg):
            reading = self._reading_for_caller()
            if reading:
                await self._wait_for(reading, host)
        if self._set is None:
            # The due time is past while a read is under way.
            wait_seconds = self._due_at - self._clock()
            raise _unavailable(wait_seconds if wait_seconds > 0 else MIN_PAUSE_SECONDS)
        return self._set.find(kid, alg)

    async def follow(self) -> None:
        """Read the set whenever a read is due, until cancelled."""
        while True:
            wait_seconds = self._due_at - self._clock()
            if wait_seconds > 0:
                await self._sleep(wait_seconds)  # until it is due
            else:
                await asyncio.wait([self._start_reading()])

    async def close(self) -> None:
        """Cancel a read that is under way."""
        if self._reading:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _wait_for(self, reading: asyncio.Task[None], host: str) -> None:
        """Wait for a read. The read continues if the wait is cancelled or times out.

        Raises AUTH_BACKEND_UNAVAILABLE if too many calls wait. They aren't
        authenticated yet, and any client can make up the id of a key.
        """
        waiting = self._waiting
        if (
            waiting.total() >= MAX_WAITING_FOR_KEYS
            or waiting[host] >= MAX_WAITING_OF_HOST
        ):
            raise _unavailable(READ_SECONDS)  # until then the read ends
        waiting[host] += 1
        try:
            await asyncio.wait([reading], timeout=READ_SECONDS)
        finally:
            waiting[host] -= 1
            if not waiting[host]:
                del waiting[host]

    def _reading_for_caller(self) -> asyncio.Task[None] | None:
        """Return the read that a caller may wait for; start one if it is due."""
        now = self._clock()
        if self._reading is None or self._reading.done():
            if (self._set is None or self._failures) and now < self._due_at:
                return None
            if self._set is not None:
                if now < self._unknown_due_at:
                    return None
                self._unknown_due_at = now + UNKNOWN_PAUSE_SECONDS
        return self._start_reading()

    def _start_reading(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._refresh())
        return self._reading

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                raw = await self._read()
                if raw != self._raw:
                    self._adopt(await in_thread(partial(read_keys, raw), name="jwks"))
                    self._raw = raw
        except Exception as error:  # noqa: BLE001  # whatever `read` raises, the old keys stay in use
            self._fail(error)
        else:
            self._failures, self._fault = 0, ""
            self._read_at = self._clock()
            self._report(None)
            self._due_at = self._clock() + self._refresh_seconds

    def _adopt(self, keys: KeySet) -> None:
        reported = self._set.left_out if self._set else {}
        self._set = keys
        self._notify()
        _log.info("keys_read", kids=sorted(key.kid or "" for key in keys.keys))
        for kid, why in keys.left_out.items():
            if reported.get(kid) != why:
                _log.warning("key_left_out", kid=kid, why=why)

    def _fail(self, error: Exception) -> None:
        self._due_at = self._clock() + backoff_seconds(
            self._failures,
            base_seconds=MIN_PAUSE_SECONDS,
            max_seconds=min(MAX_PAUSE_SECONDS, self._refresh_seconds),
        )
        self._failures += 1
        fault = str(error) if isinstance(error, KeySetError) else type(error).__name__
        if fault != self._fault:  # as a file is read every few seconds
            kept = len(self._set.keys) if self._set else 0
            _log.warning("keys_unavailable", error=fault, kept=kept)
        self._fault = fault


def _unavailable(wait_seconds: float) -> GatewayError:
    return GatewayError(
        Reason.AUTH_BACKEND_UNAVAILABLE, retry_delay_seconds=wait_seconds
    )


def keyring_of(
    file: Path | None,
    url: str | None,
    *,
    ca_file: Path | None,
    token_file: Path | None,
    report: Report = lambda _: None,
) -> Keyring | None:
    """Return the keyring of a file or a URL, None if neither is given."""
    if file:
        return Keyring(
            file_reader(file), refresh_seconds=FILE_REFRESH_SECONDS, report=report
        )
    if url:
        read = url_reader(
            url, ca_file=ca_file, token_file=token_file, proxy=proxy_for(url)
        )
        return Keyring(read, refresh_seconds=URL_REFRESH_SECONDS, report=report)
    return None
