"""The provider that reads and refreshes a credential chain, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from structlog.contextvars import get_contextvars

from healthomics_gateway.background import Background
from healthomics_gateway.errors.exceptions import Again, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.threads import AtMost, retrieve
from healthomics_gateway.upstream.provider import ChainError, Report
from healthomics_gateway.upstream.sigv4 import Credentials

WAIT_SECONDS = 10.0  # that one call waits for a read of the chain
READ_SECONDS = 60.0  # for one read of the chain; then it counts as failed
MAX_THREADS = 4  # that read the chain; a read that times out keeps its thread
RECOVERY_SECONDS = 5.0  # between reads of a chain without usable credentials
RECOVERY_READS = 6  # after AWS refused the credentials; then the next call reads
EARLY_REFRESH_PAUSE_SECONDS = 30.0  # between refreshes of valid credentials
SLOW = "a source of credentials doesn't answer; try it outside the gateway"
_RECOVERY = "credentials"  # the background task's name

_log = structlog.get_logger("credentials")

# Runs blocking work, and returns its result or raises its exception.
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class ChainProvider:
    """A provider of credentials of boto3's chain, or of a role.

    It reads and refreshes them outside the event loop.

    With `recovers`, a background task reads a chain without usable credentials again
    every few seconds. Otherwise the next call reads it, and a read that hasn't begun is
    cancelled when no call waits for it any more.
    """

    def __init__(
        self,
        report: Report,
        *,
        chain: Callable[[], Any],
        run: Run | None = None,
        recovers: bool = True,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        timeout: Callable[[float], asyncio.Timeout] = asyncio.timeout,
    ) -> None:
        """Create a provider that reads `chain` in a thread at the first call.

        `chain` may block. It returns botocore's credentials or None, and raises
        ChainError for another reason than GATEWAY_CREDENTIALS_UNAVAILABLE.
        """
        self._report = report
        self._chain = chain
        self._run = run or AtMost(MAX_THREADS, "aws-credentials").run
        self._recovers = recovers
        self._waiting = 0  # the number of calls
        self._read: _Read | None = None  # the one under way
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._timeout = timeout
        self._source: Any = None  # botocore's credentials, with their expiry
        self._credentials: Credentials | None = None
        self._refreshed_at = float("-inf")
        self._refresh: asyncio.Task[Credentials] | None = None
        self._background = Background(clock=self._clock, sleep=sleep)

    @property
    def is_usable(self) -> bool:
        """Return whether there are credentials that haven't expired."""
        return self._credentials is not None and not self._expires_within(0)

    @property
    def expires_at(self) -> datetime | None:
        """Return when the credentials expire; None if they don't, or there are none."""
        return _expiry_of(self._source)

    async def credentials(self) -> Credentials:
        """Return the current credentials; wait only if there are no valid ones."""
        if self._credentials is None or self._expires_within(0):
            return await self._refreshed()
        if (
            self._expires_within(None)
            and self._clock() - self._refreshed_at > EARLY_REFRESH_PAUSE_SECONDS
        ):
            self._start_refresh()
        return self._credentials

    async def renew(self, refused: Credentials) -> bool:
        """Read the chain again, once for all calls that used the same credentials."""
        if self._credentials == refused:
            self._source = None  # so that these aren't kept if the chain has none now
            renewed = await self._refreshed()
            if renewed == refused:
                self._recover(refused)
        return self._credentials != refused

    def fault(self) -> str:
        """Return why the background task has failed, or an empty string."""
        return self._background.fault(_RECOVERY)

    async def close(self) -> None:
        """Stop the background task, and cancel a read of the chain."""
        await self._background.stop()
        if self._refresh:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)

    def _expires_within(self, seconds: int | None) -> bool:
        """Ask botocore; None is its own time for an early refresh."""
        needed = getattr(self._source, "refresh_needed", None)
        return bool(needed and needed(seconds))

    async def _refreshed(self) -> Credentials:
        self._waiting += 1
        try:
            async with self._timeout(WAIT_SECONDS):
                return await asyncio.shield(self._start_refresh())
        except TimeoutError:
            self._report(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)
            if self._read and not self._read.is_logged:
                self._read.is_logged = True
                _log.warning(
                    "credentials_unavailable", error="TimeoutError", advice=SLOW
                )
            raise GatewayError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE) from None
        finally:
            self._waiting -= 1
            is_reading = self._read is not None and self._read.has_begun
            if not (self._waiting or is_reading or self._recovers):
                self._cancel_refresh()

    def _cancel_refresh(self) -> None:
        if self._refresh:
            self._refresh.cancel()
            self._refresh = None  # the next call begins another one

    def _start_refresh(self) -> asyncio.Task[Credentials]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._read_chain())
            self._refresh.add_done_callback(retrieve)
        return self._refresh

    async def _read_chain(self) -> Credentials:
        reading = self._read = _Read(self._chain)
        try:
            async with self._timeout(READ_SECONDS):
                read: tuple[Any, Credentials] = await self._run(reading)
        except Exception as error:  # noqa: BLE001  # a provider may raise anything
            failure = _as_chain_error(error)
            # A role's chain is read for calls only, so the call's fields are logged.
            cause = {} if self._recovers else get_contextvars()
            _log.warning("credentials_unavailable", **failure.log_fields, **cause)
            if self._credentials and self._source and not self._expires_within(0):
                self._refreshed_at = self._clock()
                return self._credentials
            self._source = self._credentials = None
            self._report(failure.reason)
            self._recover(None)
            raise GatewayError(failure.reason, again=Again.NO) from None
        finally:  # until now, so that no call's end discards the result
            self._read = None
        self._refreshed_at = self._clock()
        source, credentials = read
        if credentials != self._credentials:
            self._report(None)
        self._source, self._credentials = source, credentials
        return credentials

    def _recover(self, refused: Credentials | None) -> None:
        if self._recovers and not self._background.runs(_RECOVERY):
            self._background.start(_RECOVERY, partial(self._read_until_usable, refused))

    async def _read_until_usable(self, refused: Credentials | None) -> None:
        """Read the chain until it has credentials that AWS hasn't refused."""
        reads = 0
        while self._credentials is None or (
            self._credentials == refused and reads < RECOVERY_READS
        ):
            await self._sleep(RECOVERY_SECONDS)
            reads += 1
            await asyncio.wait([self._start_refresh()])


class _Read:
    """One read of a chain, which runs in a thread and can't be cancelled there."""

    def __init__(self, chain: Callable[[], Any]) -> None:
        self._chain = chain
        self.has_begun = False
        self.is_logged = False  # whether it was logged as slow

    def __call__(self) -> tuple[Any, Credentials]:
        """Read the chain anew, and return its credentials in both forms.

        botocore's credentials could refresh themselves, but a refresh that blocks would
        keep them locked.
        """
        self.has_begun = True
        source = self._chain()
        if source is None:
            raise LookupError("the credential chain yields nothing")
        frozen = source.get_frozen_credentials()
        return source, Credentials(frozen.access_key, frozen.secret_key, frozen.token)


def _expiry_of(source: Any) -> datetime | None:
    """Return the expiry of a session, or of botocore's credentials, if it has one."""
    own: datetime | None = getattr(source, "expires_at", None)
    return own or getattr(source, "_expiry_time", None)  # it has no public name


def _as_chain_error(error: Exception) -> ChainError:
    if isinstance(error, ChainError):
        return error
    name = type(error).__name__
    return ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, name)
