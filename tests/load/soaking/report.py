"""The output of the soak, while it runs and at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.status import Status

from load.soaking.record import Record
from testkit.fault_table import CASES

if TYPE_CHECKING:
    from load.soaking.run import Soak

LINE_SECONDS = 10  # between two lines without a terminal


def say(*lines: str) -> None:
    """Print a line at once."""
    print(*lines, sep="\n", flush=True)  # noqa: T201  # output of a program


class Progress:
    """One line that changes on a terminal, or a line every 10 seconds elsewhere."""

    def __init__(self, seconds: float) -> None:
        """Take the duration of the soak."""
        self._seconds = seconds
        console = Console(highlight=False)
        self._status = Status("", console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Begin to show the progress."""
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Restore the terminal."""
        if self._status:
            self._status.stop()

    def show(self, record: Record) -> None:
        """Show the progress."""
        last = record.samples[-1]
        line = (
            f"{last.at:5.0f} of {self._seconds:.0f} s  {record.calls:,} calls,"
            f" {record.disagreements} disagreements  {last.memory_mib:.1f} MiB,"
            f" {last.files} files, {last.threads} threads, p50 {last.p50_ms:.0f} ms,"
            f" p99 {last.p99_ms:.0f} ms"
        )
        if self._status:
            self._status.update(line)
        elif len(record.samples) % LINE_SECONDS == 0:
            say(line)


def summary(soak: Soak) -> Iterator[str]:
    """Return what was called, served and logged."""
    yield "how the calls ended:"
    yield from _counts(soak.record.ends)
    ledger = soak.ledger
    total = ledger.truths + ledger.faults.total()
    yield f"the {total:,} answers of the upstream:"
    yield from _counts(
        Counter({"the truth": ledger.truths})
        + Counter({f"{n}: {CASES[n]}": ledger.faults[n] for n in ledger.faults})
    )
    yield "events in the gateway's log:"
    yield from _counts(soak.events)
    if soak.record.unmade:
        yield f"{soak.record.unmade} calls weren't made: too many were open"
    if soak.record.stalls:
        yield f"this program itself was delayed {soak.record.stalls} times"


def _counts(counts: Counter[str]) -> Iterator[str]:
    for name, count in sorted(counts.items()):
        yield f"{count:>9,}  {name}"
