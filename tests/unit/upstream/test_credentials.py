"""Tests of reading and renewing credentials, with a scripted chain and clock."""

import asyncio
import gc
import json
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.credentials
import pytest
from botocore.exceptions import CredentialRetrievalError
from structlog.testing import capture_logs

from healthomics_gateway.background import MIN_PAUSE_SECONDS
from healthomics_gateway.errors.exceptions import Again, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.credentials import (
    MAX_THREADS,
    READ_SECONDS,
    RECOVERY_SECONDS,
    SLOW,
    WAIT_SECONDS,
    ChainProvider,
)
from healthomics_gateway.upstream.provider import ChainError, FixedCredentials
from healthomics_gateway.upstream.sigv4 import Credentials

MINUTE = 60.0
HOUR = 60 * MINUTE
UNAVAILABLE = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE


class Clock:
    """A clock that a test sets, for the provider and for botocore."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the monotonic time in seconds."""
        return self.seconds

    def time(self) -> datetime:
        """Return the time of day."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def lasting(self, key: str, seconds: float) -> Any:
        """Return botocore's credentials that expire, and don't change at a refresh."""
        expiry = self.time() + timedelta(seconds=seconds)
        words = {
            "access_key": key,
            "secret_key": f"secret-{key}",
            "token": f"token-{key}",
        }
        return botocore.credentials.RefreshableCredentials(
            **words,
            expiry_time=expiry,
            refresh_using=lambda: words | {"expiry_time": expiry.isoformat()},
            method="test",
            time_fetcher=self.time,
        )


class Chain:
    """A credential chain that returns `link`, or raises it."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.reads = 0

    def __call__(self) -> Any:
        """Count one read, and return or raise `link`."""
        self.reads += 1
        link = self.link() if callable(self.link) else self.link
        if isinstance(link, Exception):
            raise link
        return link


class Sleep:
    """A sleep that lasts until the test ends it."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[float] = asyncio.Queue()
        self._ended = asyncio.Semaphore(0)
        self.error: Exception | None = None  # raised by the next sleep that ends

    async def __call__(self, seconds: float) -> None:
        """Wait until the test ends the sleep."""
        await self._begun.put(seconds)
        await self._ended.acquire()
        if self.error:
            error, self.error = self.error, None
            raise error

    async def begun(self) -> float:
        """Wait for the next sleep, and return its seconds."""
        async with asyncio.timeout(5):
            return await self._begun.get()

    def end(self) -> None:
        """End the sleep."""
        self._ended.release()


class Timeouts:
    """Timeouts that pass when the test says so."""

    def __init__(self) -> None:
        self._newest: dict[float, asyncio.Timeout] = {}
        self._is_new: defaultdict[float, asyncio.Event] = defaultdict(asyncio.Event)

    def __call__(self, seconds: float) -> asyncio.Timeout:
        """Return a timeout that doesn't pass by itself."""
        self._newest[seconds] = asyncio.timeout(None)
        self._is_new[seconds].set()
        return self._newest[seconds]

    async def end(self, seconds: float) -> None:
        """Let the newest timeout of so many seconds pass, as soon as there is one."""
        await self._is_new[seconds].wait()
        self._is_new[seconds].clear()
        self._newest[seconds].reschedule(asyncio.get_running_loop().time())


class World:
    """A provider with its chain, clock, sleep and reports."""

    def __init__(self, link: Any, **options: Any) -> None:
        self.clock = Clock()
        self.chain = Chain(link)
        self.sleep = Sleep()
        self.timeouts = Timeouts()
        self.reports: list[Reason | None] = []
        self.provider = ChainProvider(
            self.reports.append,
            chain=self.chain,
            clock=self.clock,
            sleep=self.sleep,
            timeout=self.timeouts,
            **options,
        )

    async def key(self) -> str:
        """Return the access key of the current credentials."""
        async with asyncio.timeout(5):
            return (await self.provider.credentials()).access_key


@asynccontextmanager
async def world(link: Any = None, **options: Any) -> AsyncIterator[World]:
    """Create a provider over a chain; fail if an exception is never retrieved."""
    unretrieved: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unretrieved.append(context))
    opened = World(link, **options)
    try:
        yield opened
    finally:
        await opened.provider.close()
    gc.collect()  # logs exceptions that were never retrieved
    assert [] == unretrieved


def static(key: str) -> Any:
    """Return botocore's credentials that never expire."""
    return botocore.credentials.Credentials(key, f"secret-{key}")


async def background() -> None:
    """Wait until background work has ended."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        async with asyncio.timeout(5):
            await asyncio.wait(others)


async def refusal(world: World) -> GatewayError:
    """Return the error that `credentials()` raises."""
    with pytest.raises(GatewayError) as caught:
        await world.key()
    return caught.value


# Reading the chain.


async def test_chain_is_read_once_for_credentials_that_last() -> None:
    """The chain's credentials are returned with their token, after one read."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        first, second = await w.provider.credentials(), await w.provider.credentials()

    assert Credentials("A", "secret-A", "token-A") == first
    assert (1, [None]) == (w.chain.reads, w.reports)
    assert first is second


async def test_credentials_without_a_session_have_no_token() -> None:
    """Credentials of a user have no token."""
    async with world(static("A")) as w:
        assert Credentials("A", "secret-A", None) == await w.provider.credentials()


@pytest.mark.guarantee("credential-reads")
async def test_callers_at_once_share_one_read() -> None:
    """A hundred concurrent calls wait for one read."""
    async with world(static("A")) as w:
        keys = await asyncio.gather(*(w.key() for _ in range(100)))

    assert (["A"] * 100, 1) == (keys, w.chain.reads)


@pytest.mark.guarantee("credential-reads")
async def test_chain_that_blocks_does_not_hold_up_the_loop() -> None:
    """The chain is read in a daemon thread, so neither loop nor exit waits for it."""
    released = threading.Event()
    seen = []

    def read() -> Any:
        thread = threading.current_thread()
        seen.append((released.wait(5), thread.daemon, thread.name))
        return static("A")

    async with world(read) as w:
        waiting = asyncio.create_task(w.key())
        await asyncio.sleep(0)
        released.set()
        assert "A" == await waiting

    assert [(True, True, "aws-credentials")] == seen


async def test_cancelled_call_does_not_cancel_a_shared_read() -> None:
    """A shared read continues after the call that began it is cancelled."""
    released = threading.Event()
    async with world(lambda: released.wait(5) and static("A")) as w:
        first, second = (asyncio.create_task(w.key()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        released.set()
        assert ("A", 1) == (await second, w.chain.reads)


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(None, id="nothing"),
        pytest.param(RuntimeError("odd"), id="odd-error"),
        pytest.param(
            CredentialRetrievalError(provider="sso", error_msg="log in"), id="provider"
        ),
    ],
)
async def test_chain_without_credentials_makes_the_gateway_unready(link: Any) -> None:
    """A chain without credentials fails the call with a reason, which is reported."""
    async with world(link) as w:
        error = await refusal(w)

    assert (UNAVAILABLE, Again.NO) == (error.reason, error.again)
    assert [UNAVAILABLE] == w.reports


async def test_chain_without_credentials_is_read_again_in_the_background() -> None:
    """The chain is read every five seconds until it has credentials."""
    async with world(None) as w:
        await refusal(w)
        await refusal(w)
        for link in (None, RuntimeError("not yet"), static("A")):
            assert 5.0 == await w.sleep.begun()
            w.chain.link = link
            w.sleep.end()
        await background()
        reads = w.chain.reads
        assert "A" == await w.key()

    assert (2 + 3, reads) == (reads, w.chain.reads)
    assert [UNAVAILABLE] * 4 == w.reports[:-1]
    assert w.reports[-1] is None


# Expiry.


async def test_expired_credentials_are_not_returned() -> None:
    """A call whose credentials have expired waits for new ones."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        await w.key()
        w.clock.seconds += HOUR + 1
        w.chain.link = w.clock.lasting("B", HOUR)
        keys = await asyncio.gather(*(w.key() for _ in range(100)))

    assert (["B"] * 100, 2) == (keys, w.chain.reads)


async def test_expired_credentials_without_replacement_are_unavailable() -> None:
    """If the chain fails after the credentials have expired, there are none."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        await w.key()
        w.clock.seconds += HOUR + 1
        w.chain.link = None
        assert UNAVAILABLE is (await refusal(w)).reason

    assert [None, UNAVAILABLE] == w.reports


@pytest.mark.guarantee("credential-reads")
async def test_early_refresh_is_not_waited_for() -> None:
    """Credentials that expire soon are returned while they are refreshed."""
    released = threading.Event()
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        await w.key()
        w.clock.seconds += HOUR - 14 * MINUTE
        following = w.clock.lasting("B", HOUR)
        w.chain.link = lambda: released.wait(5) and following
        assert ["A"] * 3 == [await w.key() for _ in range(3)]
        released.set()
        await background()
        assert ("B", 2) == (await w.key(), w.chain.reads)


async def test_credentials_that_last_long_enough_are_not_refreshed() -> None:
    """Credentials are refreshed 15 minutes before they expire, as botocore does."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        await w.key()
        w.clock.seconds += HOUR - 16 * MINUTE
        await w.key()
        await background()

    assert 1 == w.chain.reads


async def test_failed_early_refresh_keeps_valid_credentials() -> None:
    """After a failed refresh valid credentials are used, and none is begun for 30 s."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        await w.key()
        w.clock.seconds += HOUR - 14 * MINUTE
        w.chain.link = None
        reads = []
        for seconds in (0, 0, 30, 1, 1):
            w.clock.seconds += seconds
            assert "A" == await w.key()
            await background()
            reads.append(w.chain.reads)

    assert [2, 2, 2, 3, 3] == reads
    assert [None] == w.reports


async def test_early_refresh_with_the_same_result_is_not_repeated_at_once() -> None:
    """A refresh that returned the same credentials isn't repeated for 30 s."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", 14 * MINUTE)
        await w.key()
        reads = []
        for seconds in (0, 30, 1, 1):
            w.clock.seconds += seconds
            assert "A" == await w.key()
            await background()
            reads.append(w.chain.reads)

    assert [1, 1, 2, 2] == reads


# Refused credentials.


@pytest.mark.guarantee("credential-renewal")
async def test_renewal_reads_the_chain_once_for_all_refused_calls() -> None:
    """A hundred calls whose credentials were refused share one renewal."""
    async with world(static("A")) as w:
        refused = await w.provider.credentials()
        w.chain.link = static("B")
        renewed = await asyncio.gather(*(w.provider.renew(refused) for _ in range(100)))
        assert ([True] * 100, "B", 2) == (renewed, await w.key(), w.chain.reads)
        assert await w.provider.renew(refused)

    assert 2 == w.chain.reads
    assert [None, None] == w.reports


async def test_renewal_with_the_same_result_returns_false() -> None:
    """`renew` returns False if the chain has the same credentials."""
    async with world(static("A")) as w:
        assert not await w.provider.renew(await w.provider.credentials())
        assert ("A", 2) == (await w.key(), w.chain.reads)


async def test_chain_with_refused_credentials_is_read_six_more_times() -> None:
    """The chain is read six more times, five seconds apart, then by the next call."""
    async with world(static("A")) as w:
        await w.provider.renew(await w.provider.credentials())
        for _ in range(6):
            assert 5.0 == await w.sleep.begun()
            w.sleep.end()
        await background()
        assert (2 + 6, [None]) == (w.chain.reads, w.reports)

        await w.provider.renew(await w.provider.credentials())
        assert 5.0 == await w.sleep.begun()


async def test_later_credentials_are_found_in_the_background() -> None:
    """Background reads end when the chain has other credentials, which is reported."""
    async with world(static("A")) as w:
        await w.provider.renew(await w.provider.credentials())
        for link in (static("A"), static("B")):
            await w.sleep.begun()
            w.chain.link = link
            w.sleep.end()
        await background()
        assert ("B", 2 + 2) == (await w.key(), w.chain.reads)

    assert [None, None] == w.reports


async def test_background_task_that_fails_runs_again() -> None:
    """A bug in the background task is logged and a fault until it runs again."""
    with capture_logs() as events:
        async with world(None) as w:
            await refusal(w)
            assert RECOVERY_SECONDS == await w.sleep.begun()
            w.sleep.error = RuntimeError("a bug")
            w.sleep.end()
            assert MIN_PAUSE_SECONDS == await w.sleep.begun()
            fault = w.provider.fault()
            w.chain.link = static("A")
            w.sleep.end()
            assert RECOVERY_SECONDS == await w.sleep.begun()
            w.sleep.end()
            await background()
            assert "A" == await w.key()
            assert "" == w.provider.fault()

    assert "its task failed with RuntimeError and will be restarted" == fault
    assert [("background_task_ended", "credentials")] == [
        (each["event"], each["task"]) for each in events if "task" in each
    ]


async def test_refused_credentials_are_dropped_if_the_chain_fails() -> None:
    """If the chain fails during a renewal, the refused credentials aren't kept."""
    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        refused = await w.provider.credentials()
        w.chain.link = None
        with pytest.raises(GatewayError) as caught:
            await w.provider.renew(refused)
        assert UNAVAILABLE is caught.value.reason
        assert UNAVAILABLE is (await refusal(w)).reason
        await w.sleep.begun()
        w.chain.link = static("B")
        w.sleep.end()
        await background()
        assert "B" == await w.key()

    assert [None, UNAVAILABLE, UNAVAILABLE, None] == w.reports


# A chain that blocks.


async def test_read_that_hangs_times_out() -> None:
    """A read that takes too long fails, and doesn't block the next one."""
    begun, released = threading.Event(), threading.Event()
    hung = []

    def hang() -> Any:
        hung.append(threading.current_thread())
        begun.set()
        released.wait(5)
        return static("late")

    async with world(hang) as w:
        call = asyncio.create_task(refusal(w))
        await asyncio.to_thread(begun.wait, 5)
        await w.timeouts.end(READ_SECONDS)
        assert UNAVAILABLE is (await call).reason
        assert [UNAVAILABLE] == w.reports
        w.chain.link = static("A")
        assert "A" == await w.key()
        released.set()
        await asyncio.to_thread(hung[0].join)
        await asyncio.sleep(0)
        assert "A" == await w.key()

    assert (2, [UNAVAILABLE, None]) == (w.chain.reads, w.reports)


async def test_read_that_hangs_is_logged_when_the_first_call_times_out() -> None:
    """A slow read is logged once, when the first call times out."""
    released = threading.Event()

    def hang() -> Any:
        released.wait(5)
        return static("late")

    with capture_logs() as events:
        async with world(hang) as w:
            for _ in range(2):
                call = asyncio.create_task(refusal(w))
                await w.timeouts.end(WAIT_SECONDS)
                await call
            released.set()
            assert "late" == await w.key()

    assert [("credentials_unavailable", SLOW)] == [
        (each["event"], each["advice"]) for each in events
    ]


async def test_chain_that_hangs_uses_a_bounded_number_of_threads() -> None:
    """Reads that never end use at most MAX_THREADS threads."""
    began, released = threading.Semaphore(0), threading.Event()

    def hang() -> None:
        began.release()
        released.wait(5)

    async with world(hang) as w:
        for _ in range(MAX_THREADS + 2):
            call = asyncio.create_task(refusal(w))
            await w.timeouts.end(READ_SECONDS)
            assert UNAVAILABLE is (await call).reason
        assert all(began.acquire(timeout=5) for _ in range(MAX_THREADS))
        assert not began.acquire(blocking=False)
        released.set()


async def test_call_waits_for_the_chain_for_ten_seconds() -> None:
    """A call fails after ten seconds, and the read continues for the next call."""
    released = threading.Event()
    async with world(lambda: released.wait(5) and static("A")) as w:
        call = asyncio.create_task(refusal(w))
        await w.timeouts.end(WAIT_SECONDS)
        assert UNAVAILABLE is (await call).reason
        assert [UNAVAILABLE] == w.reports
        released.set()
        await background()
        assert "A" == await w.key()

    assert (1, [UNAVAILABLE, None]) == (w.chain.reads, w.reports)


async def test_early_refresh_that_hangs_keeps_valid_credentials() -> None:
    """Valid credentials are used, and the chain is read again after 30 s."""
    begun, released = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        released.wait(5)

    async with world() as w:
        w.chain.link = w.clock.lasting("A", HOUR)
        await w.key()
        w.clock.seconds += HOUR - 14 * MINUTE
        w.chain.link = hang
        assert "A" == await w.key()
        await asyncio.to_thread(begun.wait, 5)
        await w.timeouts.end(READ_SECONDS)
        await background()
        assert "A" == await w.key()
        w.clock.seconds += 31
        w.chain.link = w.clock.lasting("B", HOUR)
        assert "A" == await w.key()
        await background()
        assert "B" == await w.key()
        released.set()

    assert (3, [None, None]) == (w.chain.reads, w.reports)


def test_thread_that_outlives_the_loop_raises_nothing() -> None:
    """A chain that returns after the loop has closed raises nothing."""
    begun, released = threading.Event(), threading.Event()
    hung = []

    def hang() -> None:
        hung.append(threading.current_thread())
        begun.set()
        released.wait(5)

    async def begin() -> None:
        async with world(hang) as w:
            waiting = asyncio.create_task(w.key())
            await asyncio.to_thread(begun.wait, 5)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(begin())
    released.set()
    hung[0].join(5)
    assert not hung[0].is_alive()  # an exception in it would fail the test


# Closing.


async def test_close_stops_the_background_task() -> None:
    """A closed provider has no background task."""
    async with world(None) as w:
        await refusal(w)
        await w.sleep.begun()
        assert 2 == len(asyncio.all_tasks())

    assert {asyncio.current_task()} == asyncio.all_tasks()
    assert 1 == w.chain.reads


async def test_unused_provider_can_be_closed() -> None:
    """A provider that was never used can be closed."""
    async with world(static("A")) as w:
        pass

    assert (0, []) == (w.chain.reads, w.reports)


async def test_clock_is_the_loop_s_by_default() -> None:
    """A provider works with only a chain and a report function."""
    provider = ChainProvider(lambda _: None, chain=Chain(static("A")))
    assert "A" == (await provider.credentials()).access_key
    await provider.close()


# Identities of roles.


async def test_chain_error_has_its_own_reason() -> None:
    """A ChainError's reason is raised and reported unless there are credentials."""
    denied = Reason.UPSTREAM_ACCESS_DENIED
    async with world(ChainError(denied, "AccessDenied")) as w:
        error = await refusal(w)
        w.chain.link = w.clock.lasting("A", HOUR)
        assert "A" == await w.key()
        w.clock.seconds += HOUR - 14 * MINUTE
        w.chain.link = ChainError(denied, "AccessDenied")
        assert "A" == await w.key()
        await asyncio.sleep(0)
        assert "A" == await w.key()

    assert (denied, Again.NO) == (error.reason, error.again)
    assert [denied, None] == w.reports


async def test_provider_that_does_not_recover_reads_at_the_next_call() -> None:
    """Without `recovers`, neither a failure nor a refusal starts a background task."""
    async with world(None, recovers=False) as w:
        await refusal(w)
        w.chain.link = static("A")
        assert "A" == await w.key()
        assert not await w.provider.renew(await w.provider.credentials())
        await background()

    assert (3, [UNAVAILABLE, None]) == (w.chain.reads, w.reports)


async def test_failure_of_the_chain_is_logged_without_its_text() -> None:
    """The log has the class of the exception and not its text, which may be secret."""
    program = """
import asyncio
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.telemetry.log_level import LogLevel
from healthomics_gateway.telemetry.log_setup import set_up_logging
from healthomics_gateway.upstream.credentials import ChainProvider

def chain():
    raise RuntimeError("hush")

async def main():
    set_up_logging(level=LogLevel("debug"), log_format="json")
    provider = ChainProvider(lambda _: None, chain=chain)
    try:
        await provider.credentials()
    except GatewayError:
        await provider.close()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    events = [json.loads(line) for line in output.splitlines()]
    assert [("credentials_unavailable", "RuntimeError")] == [
        (event["event"], event["error"]) for event in events if "error" in event
    ]
    assert b"hush" not in output


# Fixed credentials.


async def test_fixed_credentials_never_change() -> None:
    """The credentials never change, and `renew` compares the refused ones with them."""
    mine = Credentials("A", "secret-A")
    provider = FixedCredentials(mine)

    assert mine is await provider.credentials()
    assert not await provider.renew(mine)
    assert await provider.renew(Credentials("B", "secret-B"))
    await provider.close()
    assert mine is await provider.credentials()


async def test_expiry_of_the_credentials_is_known_if_they_have_one() -> None:
    """Credentials that expire have a time; others, and missing ones, have none."""
    async with world(static("A")) as fixed, world() as lasting:
        before = lasting.provider.expires_at
        lasting.chain.link = lasting.clock.lasting("B", 3600)
        await fixed.key()
        await lasting.key()

        assert (None, None) == (before, fixed.provider.expires_at)
        assert lasting.clock.time() + timedelta(hours=1) == lasting.provider.expires_at
    assert FixedCredentials(Credentials("A", "secret", None)).expires_at is None
