"""The verdict: the rate, what was used of it, errors, and the polls of the watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from load.crowding.account import Report, most_a_second
from load.replicating.faults import Happened, Span, outside, poll_spans, rate_spans
from load.replicating.fleet import Loss
from load.replicating.polls import CLOSE_SHARE, polls_of
from load.replicating.runs import FRESH, REMEMBERED, WATCHED, Arrival, Lives
from load.replicating.seen import Failure, Seen

USEFUL_SHARE = 0.9
GROSS = 1.5  # factor of a limit
LEAST_SECONDS = 3.0  # of a time whose share is judged alone, too
MOST_POLLS_SHARE = 1.1  # of one poll for each run and period
MOST_START_SECONDS = 3.0  # of a worker that replaces a killed one
LATE_SECONDS = 1.0  # after a killed process serves again, for its last failures
DEAD = "UNAVAILABLE"  # without details: the connection was lost
MOST_PRINTED = 10
KINDS = (FRESH, REMEMBERED, WATCHED)  # of answers


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateways were set to."""

    tps: float
    burst: float
    period_seconds: float  # of the polls


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that is judged; times are in seconds since the load began."""

    seconds: float
    opened_by: float  # all watches are open and all callers call
    arrivals: Sequence[Arrival]
    seen: Seen
    faults: Sequence[Happened]
    losses: Sequence[Loss]
    starts: Sequence[float]
    lives: Lives
    limits: Limits


def verdict(measured: Measured) -> Report:
    """Return each figure, and the faults among them."""
    report = Report()
    for judge in (_rate, _use, _errors, _watches, _polls, _starts, _answers):
        judge(measured, report)
    return report


def _rate(measured: Measured, report: Report) -> None:
    limits = measured.limits
    allowed = limits.tps + limits.burst
    most = most_a_second([each.at for each in measured.arrivals])
    text = f"at most {most} requests in a second (at most {allowed:g})"
    # A busy machine doesn't explain half as many again, even in a short run.
    report.add(text, must=most <= allowed, timed=most <= allowed * GROSS)


def _use(measured: Measured, report: Report) -> None:
    spans = outside(
        rate_spans(measured.faults), measured.opened_by, measured.lives.last_end
    )
    seconds = sum(last - first for first, last in spans)
    number = len(_within(measured.arrivals, spans))
    share = number / (seconds * measured.limits.tps) if seconds else 0.0
    report.add(
        f"{share:.1%} of the rate used in {seconds:.0f} s without a fault"
        f" (at least {USEFUL_SHARE:.0%})",
        must=share >= USEFUL_SHARE,
        timed=True,
    )
    for first, last in spans:
        part = len(_within(measured.arrivals, [(first, last)])) / (last - first)
        is_enough = part >= USEFUL_SHARE * measured.limits.tps
        report.add(
            f"  {first:5.1f} to {last:5.1f} s: {part:.1f} requests a second",
            must=is_enough or last - first < LEAST_SECONDS,
            timed=True,
        )


def _errors(measured: Measured, report: Report) -> None:
    seen = measured.seen
    odd = [each for each in seen.failures if not _is_allowed(each, measured.losses)]
    odd_number = len(odd) + seen.failed - len(seen.failures)
    report.add(
        f"{seen.failed} calls and watches failed, {odd_number} of them for another"
        " reason than the loss of a connection",
        must=not odd_number,
    )
    for (kind, reason), number in Counter((e.kind, e.reason) for e in odd).items():
        at = min(each.at for each in odd if (each.kind, each.reason) == (kind, reason))
        report.add(f"  {number} {kind}: {reason}, the first after {at:.1f} s")
    for loss in measured.losses:
        failed = {e.channel for e in seen.failures if _is_allowed(e, [loss])}
        report.add(
            f"the process killed after {loss.begun:.1f} s had {loss.most} connections"
            f" of callers; calls failed on {len(failed)}",
            must=len(failed) <= loss.most,
        )


def _is_allowed(failure: Failure, losses: Iterable[Loss]) -> bool:
    return failure.reason == DEAD and any(
        each.begun <= failure.at <= each.ended + LATE_SECONDS
        and failure.channel in each.channels
        for each in losses
    )


def _watches(measured: Measured, report: Report) -> None:
    seen, lives = measured.seen, measured.lives
    missed = seen.watches - len(seen.ends)
    report.add(f"{missed} of {seen.watches:,} watches missed the end", must=not missed)
    late = [
        at - lives.end_of(watch.rpartition(" ")[2]) for watch, at in seen.ends.items()
    ]
    if late:
        report.add(
            f"ends were reported {median(late):.1f} s later in the median, and"
            f" {max(late):.1f} s at most"
        )


def _polls(measured: Measured, report: Report) -> None:
    """Judge whether each watched run is polled once in a period."""
    period, lives = measured.limits.period_seconds, measured.lives
    spans = outside(
        poll_spans(measured.faults, period), measured.opened_by, lives.last_end
    )
    found = polls_of(measured.arrivals, lives, spans, period_seconds=period)
    share = found.number / found.due if found.due else 0.0
    report.add(
        f"{share:.2f} polls for each watched run and period (at most"
        f" {MOST_POLLS_SHARE:g}): {found.number:,} without a fault",
        must=0 < share <= MOST_POLLS_SHARE,
        timed=share <= MOST_POLLS_SHARE * GROSS,
    )
    of_all = found.of_all / max(found.due_of_all, 1)
    report.add(f"  {of_all:.2f} with the faults: {found.of_all:,}")
    _close_polls(found.close, period, report)


def _close_polls(close: Sequence[float], period: float, report: Report) -> None:
    """Judge whether a poll came too soon after another."""
    report.add(
        f"{len(close)} polls came less than {period * CLOSE_SHARE:g} s after another",
        must=not close,
        timed=True,
    )
    if close:
        times = ", ".join(f"{at:.1f}" for at in sorted(close)[:MOST_PRINTED])
        report.add(f"  after {times} s")


def _starts(measured: Measured, report: Report) -> None:
    for seconds in measured.starts:
        report.add(
            f"a killed worker's successor served after {seconds:.1f} s"
            f" (at most {MOST_START_SECONDS:g})",
            must=seconds <= MOST_START_SECONDS,
            timed=True,
        )


def _answers(measured: Measured, report: Report) -> None:
    seen = measured.seen
    report.add(f"{len(seen.wrong)} wrong answers", must=not seen.wrong)
    for each in seen.wrong[:MOST_PRINTED]:
        report.add(f"  {each}")
    counts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(seen.answers.items()))
    report.add(f"answers: {counts}", must=len(seen.answers) == len(KINDS))
    if seen.waits:
        slow = sorted(seen.waits)[int(0.99 * len(seen.waits))]
        report.add(
            f"a fresh answer took {median(seen.waits):.1f} s in the median,"
            f" p99 {slow:.1f} s"
        )
    asked = sum(each.kind == REMEMBERED for each in measured.arrivals)
    report.add(
        f"{asked:,} requests for {seen.answers[REMEMBERED]:,} remembered answers"
    )


def _within(arrivals: Sequence[Arrival], spans: Sequence[Span]) -> list[Arrival]:
    return [
        each
        for each in arrivals
        if any(first <= each.at < last for first, last in spans)
    ]
