"""The scripts do what `MemoryStore` does, for any commands at any times."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import isclose
from typing import Any

import pytest

from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.store import Rate, StoreError
from healthomics_gateway.shared.valkey.scripts import Script
from healthomics_gateway.shared.valkey.store import ValkeyStore
from healthomics_gateway.shared.valkey.urls import parse_store_url
from testkit.clocks import MonotonicClock
from testkit.local_store import LocalStore
from testkit.valkey_server import ValkeyServer

STEP_SECONDS = 1 / 64  # exact in binary and in the six digits of the scripts
COMMANDS = 400
REPLICAS = 4
RATE, CALLS = Rate(8.0, 3.0), Rate(2.0, 4.0)
NAMES = ("a", "b")


class _ClockedStore(ValkeyStore):
    """A store whose scripts use a clock of the test, and forget nothing."""

    def __init__(self, url: str, deployment: str, clock: MonotonicClock) -> None:
        super().__init__(
            parse_store_url(url), deployment=deployment, max_value_bytes=1000
        )
        self._clock = clock

    async def _run(self, script: Script, keys: Sequence[str], *values: Any) -> Any:
        micros = round(self._clock.now * 1_000_000)
        time = f"{{'{micros // 1_000_000}', '{micros % 1_000_000}'}}"
        text = script.text.replace("redis.call('TIME')", time)
        text = text.replace("redis.call('PEXPIRE'", "do end --")
        assert text != script.text
        return await self._command("EVAL", text, len(keys), *keys, *values)


class _Pair:
    """The two stores, which must return the same."""

    def __init__(self, url: str, seed: int) -> None:
        self.clock = MonotonicClock()
        self.stores = (
            LocalStore(MemoryStore(clock=self.clock)),
            _ClockedStore(url, f"seed-{seed}", self.clock),
        )

    async def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a command, which is the same on both."""
        results = []
        for store in self.stores:
            try:
                results.append(await getattr(store, method)(*args, **kwargs))
            except StoreError as error:
                results.append(str(error))
        assert _same(*results), (method, args, kwargs, results)
        return results[0]


def _same(one: Any, other: Any) -> bool:
    """Return whether two results are equal; numbers have six digits in the scripts."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return all(map(_same, one, other))
    if isinstance(one, float):
        return isclose(one, other, abs_tol=1e-5)
    return bool(one == other)


@pytest.mark.parametrize("seed", range(8))
async def test_scripts_return_what_a_memory_store_returns(
    server: ValkeyServer, seed: int
) -> None:
    """The same commands at the same times have the same results in both stores."""
    chance = random.Random(seed)
    pair = _Pair(server.url, seed)
    seen: dict[str, float] = {}  # when each replica was last heard of
    for _ in range(COMMANDS):
        pair.clock.now += STEP_SECONDS * chance.choice((0, 1, 5, 20, 60, 200))
        # A replica that was forgotten comes back with another id.
        seen = {name: at for name, at in seen.items() if pair.clock.now - at < 9}
        while len(seen) < REPLICAS:
            name = chance.randbytes(4).hex()
            await pair.both("beat", name, is_attached=False, known=REPLICAS)
            seen[name] = pair.clock.now
        await _any_command(pair, chance, seen)
    await pair.both("reserve", "a", RATE, replica="unknown")
    await pair.stores[1].close()


async def test_replicas_that_ask_for_different_rates_share_the_lowest(
    server: ValkeyServer,
) -> None:
    """Each learns of it by its next reservation."""
    pair = _Pair(server.url, seed=-1)
    low = Rate(RATE.tps / 2, RATE.burst)
    got: list[Any] = []
    for replica in NAMES:
        await pair.both("beat", replica, is_attached=True, known=2)
    await pair.both("cut", "q", low)  # isn't a reservation
    pair.clock.now += 50.0
    for replica in NAMES:
        await pair.both("beat", replica, is_attached=True, known=2)
    for replica, rate in (("a", RATE), ("a", RATE), ("b", low), ("b", low)):
        got.append(await pair.both("reserve", "q", rate, replica=replica))
    pair.clock.now += 0.5
    got.append(await pair.both("reserve", "q", RATE, replica="a"))
    await pair.stores[1].close()

    assert [False, False, True, False, True] == [each.is_other for each in got]
    assert [8.0, 8.0, 4.0, 4.0] == pytest.approx([each.tps for each in got[:4]])
    assert low.tps < got[4].tps < low.tps + 0.1


async def _any_command(
    pair: _Pair, chance: random.Random, seen: dict[str, float]
) -> None:
    replica, name = chance.choice(list(seen)), chance.choice(NAMES)
    command = chance.randrange(12)
    if command <= 3:  # replicas beat more often than they do anything
        attached = bool(chance.randrange(4))
        await pair.both("beat", replica, is_attached=attached, known=3)
        seen[replica] = pair.clock.now
    elif command == 4:
        await pair.both("reserve", name, RATE, replica=replica)
    elif command == 5:
        await pair.both("cut", name, RATE)
    elif command == 6:
        await pair.both("take", name, CALLS, wanted=chance.randrange(1, 6))
    elif command == 7:
        limit = chance.choice((None, 5))
        number = chance.randrange(4)
        await pair.both("count", name, number, replica=replica, limit=limit)
    elif command == 8:
        age = STEP_SECONDS * chance.randrange(100)
        value = chance.randbytes(8)
        await pair.both("write", name, "x", value, age_seconds=age, keep_seconds=1e5)
    elif command == 9:
        await pair.both(*chance.choice((("read", name, "x"), ("remove", name))))
    elif command == 10:
        period = float(chance.choice((1, 5)))
        await pair.both("claim", name, "x", replica=replica, period_seconds=period)
    else:
        await pair.both("release", name, replica=replica)
