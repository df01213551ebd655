"""The attackers beside the load: one after the other, each in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio.subprocess import DEVNULL

ATTACKS = (
    *("health-zero", "watches-zero", "masks-zero", "health-streams"),
    *("unknown-key", "sybils", "bad-path"),
)
SECONDS = 5.0  # that each lasts
# Units a second: the attacker and the judge share the machine with the gateway, and
# what a flood costs is for `make flood`.
RATE = 200.0
PAUSE_SECONDS = 3.0  # from the end of one to the beginning of the next


async def attack(address: str) -> None:
    """Attack again and again, until cancelled."""
    for name in itertools.cycle(ATTACKS):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faults.attackers", name, address),
            *("--seconds", f"{SECONDS:g}", "--rate", f"{RATE:g}"),
            stdout=DEVNULL,
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        await asyncio.sleep(PAUSE_SECONDS)  # its connections end, and what they held
