"""The signals that end a gateway, with a recording watchdog."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from healthomics_gateway.app.shutdown import FORCE_SECONDS, FORCED, Signals
from healthomics_gateway.app.signals import ENDING, IGNORED, names_file

DRAIN_SECONDS = 25.0
STORM = 100  # signals


class Watchdog:
    """A clock that the test sets, and the time of the forced end."""

    def __init__(self) -> None:
        """Start at 1000 seconds."""
        self.now = 1000.0
        self.ends: list[
            float
        ] = []  # times of the forced end; each replaces the previous one
        self.codes: list[int] = []

    def end_in(self, seconds: float) -> None:
        """Record when it would end the process."""
        self.ends.append(self.now + seconds)

    def signals(self, *, reloads: bool = False) -> Signals:
        """Return signals that are handled from now on."""
        return Signals(
            DRAIN_SECONDS,
            reloads=reloads,
            clock=lambda: self.now,
            end_in=self.end_in,
            end_now=self.codes.append,
        )


@pytest.fixture(autouse=True)
def _same_handlers() -> Iterator[None]:
    """Restore the signal handlers."""
    before = {number: signal.getsignal(number) for number in (*ENDING, *IGNORED)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("after_seconds", "ends"),
    [
        pytest.param(1.0, [1026.5, 1001.0 + FORCE_SECONDS], id="early"),
        pytest.param(25.5, [1026.5], id="late"),
    ],
)
async def test_second_signal_never_delays_the_end(
    after_seconds: float, ends: list[float]
) -> None:
    """It makes the forced end earlier, unless that is already near."""
    watchdog = Watchdog()
    signals = watchdog.signals()
    signal.raise_signal(signal.SIGTERM)
    await signals.first.wait()
    watchdog.now += after_seconds
    signal.raise_signal(signal.SIGINT)
    await signals.second.wait()

    assert ends == watchdog.ends
    assert [] == watchdog.codes


async def test_order_to_drain_counts_as_the_first_signal() -> None:
    """It has its own drain time; a later order changes nothing."""
    watchdog = Watchdog()
    signals = watchdog.signals()
    signals.drain(5.0)
    await signals.first.wait()
    signals.drain(60.0)
    await asyncio.sleep(0)

    assert 5.0 == signals.drain_seconds
    assert [1005.0 + FORCE_SECONDS] == watchdog.ends
    assert not signals.second.is_set()


async def test_orders_to_end_count_as_the_second_and_the_third_signal() -> None:
    """A drain needn't have begun; only the last one ends the process at once."""
    watchdog = Watchdog()
    signals = watchdog.signals()
    for _ in range(2):
        signals.end()
        await signals.second.wait()
    before = list(watchdog.codes)
    signals.force()

    assert signals.first.is_set()
    assert ([], [FORCED]) == (before, watchdog.codes)


async def test_third_signal_ends_the_process_at_once() -> None:
    """The third signal and all later ones end the process, without an exception."""
    watchdog = Watchdog()
    signals = watchdog.signals()
    for _ in range(STORM):
        for number in (*ENDING, *IGNORED):
            signal.raise_signal(number)
    await signals.second.wait()

    assert [FORCED] * (STORM * len(ENDING) - 2) == watchdog.codes


async def test_sighup_reloads_if_there_is_a_file() -> None:
    """It neither ends the process nor counts as one of the signals that do."""
    watchdog = Watchdog()
    signals = watchdog.signals(reloads=True)
    for _ in range(STORM):
        signal.raise_signal(signal.SIGHUP)
    await signals.reload.wait()

    assert not signals.first.is_set()
    assert ([], []) == (watchdog.ends, watchdog.codes)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["serve", "--config", "f"], True, id="two-arguments"),
        pytest.param(["serve", "--conf=f"], True, id="shortened"),
        pytest.param(["serve", "--sandbox"], False, id="without"),
    ],
)
def test_file_is_found_in_the_arguments(
    arguments: list[str], *, expected: bool
) -> None:
    """A signal that arrives before the arguments are parsed must know of the file."""
    assert expected == names_file(arguments)


async def test_ignored_signal_stays_ignored() -> None:
    """A SIGHUP that was ignored at the start, as under `nohup`, ends nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = Watchdog().signals()
    signal.raise_signal(signal.SIGHUP)
    await asyncio.sleep(0)

    assert not signals.first.is_set()


def test_signal_after_the_event_loop_is_ignored() -> None:
    """A process that is ending, as after a failed start, keeps its exit code."""
    watchdog = Watchdog()

    async def handle() -> None:
        watchdog.signals(reloads=True)

    asyncio.run(handle())
    for _ in range(3):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)

    assert ([], []) == (watchdog.ends, watchdog.codes)
