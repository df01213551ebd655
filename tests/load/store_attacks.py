"""Attack the store that two gateways share, while callers check what they get.

The attacker has its own connections to a real Valkey and may do everything there, but
doesn't know the gateways' secret. It forges, copies and replays values, changes types
and numbers, writes a value of 100 MB, floods the channels, and fills the store. While
it forges what the store counts, each gateway must hold the quota by itself.

Ends with 0 if no caller got what it must not see, no call failed, the memory of the
gateways stayed within its bound and the quota held; with 1 and the wrong figures
otherwise, and with 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from load.crowding.account import Report, connected, most_a_second
from load.forging.attacks import ATTACKS, Attacker
from load.forging.callers import RULES, RUNS, Callers, Got
from load.replicating import account, store
from load.replicating.fleet import Replicas
from load.replicating.runs import Lives
from load.soaking.process import memory_and_threads
from load.soaking.report import say
from testkit.callers import SIGNER, settings_of_tokens
from testkit.metrics import scrape

REPLICAS = 2
SECONDS, SHORT_SECONDS = 6.0, 0.3  # of each attack; the round under way ends
SETTLE_SECONDS = 3.0  # before the first attack, and after the last
SAMPLE_SECONDS = 0.25
TPS, BURST = 30.0, 6.0  # less than the callers want
# Of a gateway, more than before the attacks: a small part of one value of 100 MB.
MOST_MORE_MIB = 64.0
# These write what the store counts, which nobody can authenticate but the store.
FORGES_QUOTA = ("random bytes", "copies", "replays", "other types", "numbers")
SETTINGS = {
    "GATEWAY_QUOTA__TPS": f"{TPS:g}",
    "GATEWAY_QUOTA__BURST": f"{BURST:g}",
    "GATEWAY_WATCH__INTERVAL": "1s",
}
REJECTED = "store_values_rejected_total"
KINDS = ("fresh", "remembered", "watched", "hidden")  # of answers
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


@dataclass
class Result:
    """What is judged."""

    got: Got = field(default_factory=Got)
    rounds: dict[str, int] = field(default_factory=dict)  # by attack
    times: dict[str, tuple[float, float]] = field(default_factory=dict)  # by attack
    memory_mib: list[list[float]] = field(default_factory=list)  # of each gateway
    asked: list[float] = field(default_factory=list)  # when the account was asked
    rejected: float = 0.0  # values and messages of the store, by both gateways


async def attacked(result: Result, seconds: float, *, seed: int) -> None:
    """Serve, call, and make each attack for some seconds."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        whole = len(ATTACKS) * (seconds + SETTLE_SECONDS)
        file = folder / "arrivals"
        running = account.running(Lives(RUNS, whole, 2 * whole), file)
        fake = await stack.enter_async_context(running)
        valkey, line = await stack.enter_async_context(store.serving())
        fleet = await stack.enter_async_context(_gateways(folder, fake, line))
        fake.begin(time.monotonic())
        stubs = [
            (await stack.enter_async_context(connected(each, 1)))[0]
            for each in fleet.served.values()
        ]
        attacker = Attacker(valkey.port, seed=seed)
        stack.push_async_callback(attacker.close)
        beside = [
            asyncio.create_task(Callers(stubs, result.got).run()),
            asyncio.create_task(_sample(fleet, result)),
        ]
        await asyncio.sleep(SETTLE_SECONDS)  # the memory before the attacks is measured
        await _attack(attacker, result, seconds)
        await asyncio.sleep(SETTLE_SECONDS)  # the same after them
        for served in fleet.served.values():
            result.rejected += (await scrape(served)).value(REJECTED)
        for each in beside:
            if each.done():
                each.result()  # raises what ended it
            each.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        result.asked = [each.at for each in account.arrivals(file)]


@asynccontextmanager
async def _gateways(
    folder: Path, fake: account.Running, line: store.Line
) -> AsyncIterator[Replicas]:
    """Serve two gateways whose callers have tokens, and may see a group each."""
    config = folder / "gateway.toml"
    config.write_text(RULES)
    fleet = Replicas(REPLICAS, arguments=("--config", str(config)))
    settings = {
        **SETTINGS,
        **settings_of_tokens(folder, SIGNER),
        **store.settings(line.port, replicas=REPLICAS),
        "AWS_ENDPOINT_URL_STS": fake.sts,
    }
    try:
        await fleet.start(fake.url, settings)
        yield fleet
    finally:
        await fleet.stop()


async def _attack(attacker: Attacker, result: Result, seconds: float) -> None:
    for name, attack in ATTACKS.items():
        begun = time.monotonic()
        rounds = 0
        while time.monotonic() < begun + seconds:
            await attack(attacker)
            rounds += 1
            await asyncio.sleep(0.05)  # the callers need time too
        result.rounds[name] = rounds
        result.times[name] = begun, time.monotonic()
        errors = result.got.errors.total()
        leaks = result.got.leaks.total()
        say(f"  {name}: {rounds} rounds; {errors} errors and {leaks} leaks until now")


async def _sample(fleet: Replicas, result: Result) -> None:
    """Measure the memory of each gateway now and then, until cancelled."""
    result.memory_mib = [[] for _ in fleet.served]
    while True:
        for at, served in fleet.served.items():
            memory, _ = memory_and_threads(served.process.pid)
            result.memory_mib[at].append(memory)
        await asyncio.sleep(SAMPLE_SECONDS)  # between two measurements


def verdict(result: Result) -> Report:
    """Return each figure, and the faults among them."""
    report, got = Report(), result.got
    counts = ", ".join(f"{number:,} {name}" for name, number in got.answers.items())
    report.add(f"answers: {counts}", must=len(got.answers) == len(KINDS))
    report.add(f"leaks: {dict(got.leaks) or 'none'}", must=not got.leaks)
    report.add(f"unexpected errors: {dict(got.errors) or 'none'}", must=not got.errors)
    text = f"the gateways rejected {result.rejected:,.0f} values of the store"
    report.add(text, must=result.rejected > 0)
    report.add(f"the slowest call took {got.slowest_seconds:.1f} s")
    _judge_rate(result, report)
    settled = int(SETTLE_SECONDS / SAMPLE_SECONDS)
    for values in result.memory_mib:
        more = max(values) - max(values[:settled])
        report.add(
            f"memory of a gateway: {max(values):.0f} MiB, {more:.0f} more than before"
            f" (at most {MOST_MORE_MIB:.0f})",
            must=more <= MOST_MORE_MIB,
        )
    idle = [name for name in ATTACKS if not result.rounds.get(name)]
    report.add(f"attacks that weren't made: {idle or 'none'}", must=not idle)
    return report


def _judge_rate(result: Result, report: Report) -> None:
    """Judge the rate; while the quota itself is forged, each gateway holds its own."""
    forged = [result.times[name] for name in FORGES_QUOTA if name in result.times]
    times = {
        True: [at for at in result.asked if _is_in(forged, at)],
        False: [at for at in result.asked if not _is_in(forged, at)],
    }
    for is_forged, what in ((False, "otherwise"), (True, "while it is forged")):
        most = most_a_second(times[is_forged])
        allowed = (TPS + BURST) * (REPLICAS if is_forged else 1)
        report.add(
            f"the quota, {what}: at most {most} requests in a second"
            f" (at most {allowed:g})",
            must=most <= allowed,
            timed=True,
        )


def _is_in(spans: Sequence[tuple[float, float]], at: float) -> bool:
    # A forged token is used within a second.
    return any(begun <= at < ended + 1.0 for begun, ended in spans)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="store_attacks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--short", action="store_true", help="0.3 seconds of each attack instead of 6"
    )
    made.add_argument("--seed", type=int, help="of what is forged (default: any)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = parser().parse_args(arguments)
    drawn = random.SystemRandom().getrandbits(32)
    seed = drawn if options.seed is None else options.seed
    seconds = SHORT_SECONDS if options.short else SECONDS
    say(f"{len(ATTACKS)} attacks of {seconds:g} s on the store, seed {seed}")
    result = Result()
    try:
        asyncio.run(attacked(result, seconds, seed=seed))
    except KeyboardInterrupt:
        return INTERRUPTED
    report = verdict(result)
    faults = report.faults + report.slow
    say(*report.lines, *(f"FAILED {each}" for each in faults))
    if not faults:
        say("ok: every figure is as it must be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
