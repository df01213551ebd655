"""Whose credentials sign a call: boto3's chain, off the event loop, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import structlog
from structlog.contextvars import get_contextvars

from healthomics_gateway.background import Background
from healthomics_gateway.errors.exceptions import Again, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.threads import AtMost, retrieve
from healthomics_gateway.upstream.sigv4 import Credentials

AGENT = f"healthomics-gateway/{version('healthomics-gateway')}"  # what AWS is told
WAIT_SECONDS = 10.0  # of one call for a read of the chain
PATIENCE_SECONDS = 60.0  # with one read of the chain; then it counts as failed
MAX_THREADS = (
    4  # that read the chain; all but one have hung for more than PATIENCE_SECONDS
)
RECOVERY_SECONDS = 5.0  # between looks at the chain while it has nothing usable
RECOVERY_LOOKS = 6  # after AWS refused what it has; then the next call decides
EARLY_REFRESH_PAUSE_SECONDS = 30.0  # between refreshes of what is still valid
SLOW = "a source of credentials doesn't answer; try it outside the gateway"
_LOOK_OUT = "credentials"  # the background task's name

_log = structlog.get_logger("identity")

# Told None when the gateway's AWS identity works, else why it doesn't.
Report = Callable[[Reason | None], None]

# Returns what blocking work returns, or raises what it raises.
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class Identity(Protocol):
    """Where a call's credentials come from."""

    @property
    def is_usable(self) -> bool:
        """Whether there are credentials that haven't expired."""
        ...

    async def credentials(self) -> Credentials:
        """Give credentials, or raise GATEWAY_CREDENTIALS_UNAVAILABLE."""
        ...

    async def renew(self, refused: Credentials) -> bool:
        """Replace credentials that AWS refused; tell whether there are others now."""
        ...

    def fault(self) -> str:
        """Return what is wrong with what goes on in the background, or nothing."""
        ...

    async def close(self) -> None:
        """End what goes on in the background."""
        ...


class FixedIdentity:
    """Credentials that never change."""

    is_usable = True

    def __init__(self, credentials: Credentials) -> None:
        """Always give `credentials`."""
        self._credentials = credentials

    async def credentials(self) -> Credentials:
        """Give the credentials."""
        return self._credentials

    async def renew(self, refused: Credentials) -> bool:
        """Have no others."""
        return refused != self._credentials

    def fault(self) -> str:
        """Return that nothing is wrong."""
        return ""

    async def close(self) -> None:
        """Have nothing to end."""


class ChainError(Exception):
    """A chain's own word for why it yields nothing: the reason, and a name to log."""

    def __init__(
        self, reason: Reason, name: str, *, source: str = "", advice: str = ""
    ) -> None:
        """Create an error with `reason`; the rest is for the log.

        `name` is AWS's code or the failure's, never its text, `source` where
        credentials were looked for, `advice` what an operator can do.
        """
        super().__init__(name)
        self.reason = reason
        self.name = name
        self.known = {"error": name}
        if source:
            self.known["source"] = source
        if advice:
            self.known["advice"] = advice


class ChainIdentity:
    """boto3's credential chain, or a role's, read and refreshed off the event loop.

    A chain that yields nothing is looked at again every few seconds. Where an identity
    doesn't look out, the next call decides, and a read that hasn't begun is given up
    when no call waits for it any more.
    """

    def __init__(
        self,
        report: Report,
        *,
        chain: Callable[[], Any],
        run: Run | None = None,
        looks_out: bool = True,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wait_seconds: float = WAIT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Read `chain`, which answers botocore's credentials or None, and may block.

        It raises a ChainError where another reason than
        GATEWAY_CREDENTIALS_UNAVAILABLE is to be told.
        """
        self._report = report
        self._chain = chain
        self._run = run or AtMost(MAX_THREADS, "aws-credentials").run
        self._looks_out = looks_out
        self._waiting = 0  # calls
        self._read: _Read | None = None  # the newest, while it is waited for
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._wait_seconds = wait_seconds
        self._patience_seconds = patience_seconds
        self._source: Any = None  # botocore's credentials: they know when they expire
        self._credentials: Credentials | None = None
        self._refreshed_at = float("-inf")
        self._refresh: asyncio.Task[Credentials] | None = None
        self._background = Background(clock=self._clock, sleep=sleep)

    @property
    def is_usable(self) -> bool:
        """Whether there are credentials that haven't expired."""
        return self._credentials is not None and not self._expires_within(0)

    async def credentials(self) -> Credentials:
        """Give the current credentials; wait only where there are no valid ones."""
        if self._credentials is None or self._expires_within(0):
            return await self._refreshed()
        if (
            self._expires_within(None)
            and self._clock() - self._refreshed_at > EARLY_REFRESH_PAUSE_SECONDS
        ):
            self._start_refresh()
        return self._credentials

    async def renew(self, refused: Credentials) -> bool:
        """Read the chain anew, once for all who were refused with the same."""
        if self._credentials == refused:
            self._source = None  # not to be kept, should the chain yield nothing now
            renewed = await self._refreshed()
            if renewed == refused:
                self._recover(refused)
        return self._credentials != refused

    def fault(self) -> str:
        """Return why the look-out doesn't run at the moment, or nothing."""
        return self._background.fault(_LOOK_OUT)

    async def close(self) -> None:
        """End the look-out, and a read of the chain."""
        await self._background.stop()
        if self._refresh:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)

    def _expires_within(self, seconds: int | None) -> bool:
        """Ask botocore; None stands for the time that it finds early enough."""
        needed = getattr(self._source, "refresh_needed", None)
        return bool(needed and needed(seconds))

    async def _refreshed(self) -> Credentials:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
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
            if not (self._waiting or is_reading or self._looks_out):
                self._give_up()

    def _give_up(self) -> None:
        if self._refresh:
            self._refresh.cancel()
            self._refresh = None  # the next call doesn't wait for what is cancelled

    def _start_refresh(self) -> asyncio.Task[Credentials]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._read_chain())
            self._refresh.add_done_callback(retrieve)
        return self._refresh

    async def _read_chain(self) -> Credentials:
        reading = self._read = _Read(self._chain)
        try:
            async with asyncio.timeout(self._patience_seconds):
                read: tuple[Any, Credentials] = await self._run(reading)
        except Exception as error:  # noqa: BLE001  # a provider may raise anything
            failure = _told(error)
            # A role's are read for calls alone, the gateway's own by itself too.
            cause = {} if self._looks_out else get_contextvars()
            _log.warning("credentials_unavailable", **failure.known, **cause)
            if self._credentials and self._source and not self._expires_within(0):
                self._refreshed_at = self._clock()
                return self._credentials
            self._source = self._credentials = None
            self._report(failure.reason)
            self._recover(None)
            raise GatewayError(failure.reason, again=Again.NO) from None
        finally:  # not when the thread ends: what it has read would be given up
            self._read = None
        self._refreshed_at = self._clock()
        source, credentials = read
        if credentials != self._credentials:
            self._report(None)
        self._source, self._credentials = source, credentials
        return credentials

    def _recover(self, refused: Credentials | None) -> None:
        if self._looks_out and not self._background.runs(_LOOK_OUT):
            self._background.start(_LOOK_OUT, partial(self._look_out, refused))

    async def _look_out(self, refused: Credentials | None) -> None:
        """Read the chain until it yields others than AWS refused."""
        looks = 0
        while self._credentials is None or (
            self._credentials == refused and looks < RECOVERY_LOOKS
        ):
            await self._sleep(RECOVERY_SECONDS)
            looks += 1
            await asyncio.wait([self._start_refresh()])


class _Read:
    """One read of a chain, for a thread. A thread can't be cancelled."""

    def __init__(self, chain: Callable[[], Any]) -> None:
        self._chain = chain
        self.has_begun = False
        self.is_logged = False  # that it takes long

    def __call__(self) -> tuple[Any, Credentials]:
        """Resolve the chain anew, as a refresh that hangs keeps its source locked.

        What is resolved would refresh itself in the same way.
        """
        self.has_begun = True
        source = self._chain()
        if source is None:
            raise LookupError("the credential chain yields nothing")
        frozen = source.get_frozen_credentials()
        return source, Credentials(frozen.access_key, frozen.secret_key, frozen.token)


def _told(error: Exception) -> ChainError:
    if isinstance(error, ChainError):
        return error
    name = type(error).__name__
    return ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, name)
