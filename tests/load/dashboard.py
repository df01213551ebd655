"""Load a gateway for 80 seconds, scrape its metrics, and draw the dashboard's panels.

The gateway runs in a separate process against a fake account of 10 calls a second, in
phases: a steady load, a burst of more calls than the quota allows, an account that
others use too, and watches of runs that change. Ends with 0 if all metrics of the
guide were served, with 1 and the missing ones otherwise, and with 130 if it was
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from load.crowding.account import Account, connected
from load.dashboarding.phases import PHASES, RULES, SETTINGS, Load, run
from load.dashboarding.scrapes import Recording, record
from load.soaking.report import say
from testkit.callers import SIGNER, settings_of_tokens
from testkit.gateway_process import serving
from testkit.lying_upstream import LyingUpstream

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "guide" / "dashboard.png"
METRICS = ROOT / "docs" / "guide" / "metrics.md"
OF_STORE = "healthomics_gateway_store_"
QUOTA = {"GATEWAY_QUOTA__TPS": "8", "GATEWAY_QUOTA__BURST": "2"}  # the default
LATENCY_SECONDS = 0.15  # of the fake account
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


async def measure(*, share: float) -> tuple[Recording, Load]:
    """Run all phases, each for a share of its time, and return what was scraped."""
    account = Account(latency_seconds=LATENCY_SECONDS)
    recording = Recording()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        config = folder / "gateway.toml"
        config.write_text(RULES)
        upstream = await stack.enter_async_context(LyingUpstream(truth=account.answer))
        served = await stack.enter_async_context(
            serving(
                upstream.url,
                arguments=("--config", str(config)),
                **QUOTA,
                **SETTINGS,
                **settings_of_tokens(folder, SIGNER),
            )
        )
        (stub,) = await stack.enter_async_context(connected(served, 1))
        load = Load(stub, account)
        stack.push_async_callback(load.close)
        seconds = sum(each.seconds for each in PHASES) * share
        await asyncio.gather(
            record(served.admin_address, recording, seconds=seconds),
            run(load, share=share),
        )
    return recording, load


def missing(recording: Recording) -> list[str]:
    """Return the metrics of the guide that weren't served; this load has no store."""
    wanted = re.findall(r"^\| `(\w+)`", METRICS.read_text(), re.MULTILINE)
    served = recording.names | {name.removesuffix("_count") for name in recording.names}
    expected = {name for name in wanted if not name.startswith(OF_STORE)}
    return sorted(expected - served)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--share", type=float, default=1.0, help="of the usual time (default: 1)"
    )
    made.add_argument(
        "--picture", type=Path, default=PICTURE, help="the file (default: the guide's)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = parser().parse_args(arguments)
    from load.dashboarding.picture import draw  # noqa: PLC0415  # --help needs no matplotlib

    try:
        recording, load = asyncio.run(measure(share=options.share))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        say(f"FAILED: {error}")
        return 1
    phases = [(each.name, each.seconds * options.share) for each in PHASES]
    draw(recording, phases, options.picture)
    absent = missing(recording)
    say(
        f"{len(recording.scrapes)} scrapes; calls by code: {dict(load.ends)}",
        f"drawn: {options.picture}",
        *(f"FAILED: {name} wasn't served" for name in absent),
    )
    return 1 if absent else 0


if __name__ == "__main__":
    sys.exit(main())
