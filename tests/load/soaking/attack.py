"""The attackers beside the load: one after the other, each in a separate process."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio.subprocess import DEVNULL

ATTACKS = (
    *("health-zero", "watches-zero", "masks-zero", "health-streams"),
    *("unknown-key", "sybils", "bad-path"),
)
SECONDS = 5.0  # of each attack
# Units a second: the attacker and the judge share the machine with the gateway, and
# `make flood` measures the cost of a flood.
RATE = 200.0
PAUSE_SECONDS = 3.0  # between two attacks


async def attack(address: str) -> None:
    """Attack again and again, until cancelled.

    Raises:
        RuntimeError: An attacker failed, so the soak would run without an attack.

    """
    for name in itertools.cycle(ATTACKS):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "load.attackers", name, address),
            *("--seconds", f"{SECONDS:g}", "--rate", f"{RATE:g}"),
            stdout=DEVNULL,
        )
        try:
            if status := await process.wait():
                raise RuntimeError(f"the attacker {name} exited with status {status}")
        finally:
            if process.returncode is None:
                process.kill()
        await asyncio.sleep(PAUSE_SECONDS)  # for its connections to end
