"""The judgement of `make store-attacks`, and the attacks themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from healthomics.v1.run_pb2 import Run
from load.forging.attacks import ATTACKS, Attacker
from load.forging.callers import Callers, Got
from load.replicating import store
from load.replicating.account import group_of, uuid_of
from load.store_attacks import BURST, MOST_MORE_MIB, TPS, Result, verdict

GOT = Got(answers=Counter(fresh=1, remembered=1, watched=1, hidden=1))
GOOD = Result(
    got=GOT,
    rounds=dict.fromkeys(ATTACKS, 1),
    memory_mib=[[100.0] * 20, [100.0] * 20],
    asked=[at / TPS for at in range(600)],
    rejected=1.0,
)
RUN_ID, OTHER_ID = "7000001", "7000002"
QUIET = ("random bytes", "copies", "replays", "other types", "numbers", "messages")


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(replace(GOOD, got=replace(GOT, leaks=Counter(x=1))), id="leak"),
        pytest.param(replace(GOOD, got=replace(GOT, errors=Counter(x=1))), id="error"),
        pytest.param(
            replace(GOOD, got=replace(GOT, answers=Counter(fresh=1))), id="idle"
        ),
        pytest.param(replace(GOOD, rounds={}), id="no-attack"),
        pytest.param(replace(GOOD, rejected=0.0), id="nothing-noticed"),
        pytest.param(
            replace(GOOD, asked=[0.0] * int(TPS + BURST + 1)), id="too-many-requests"
        ),
        pytest.param(
            replace(GOOD, memory_mib=[[100.0] * 20 + [101.0 + MOST_MORE_MIB]]),
            id="memory",
        ),
    ],
)
def test_one_thing_that_goes_wrong_is_a_fault(result: Result) -> None:
    """Each loss is a fault, and a result without one has none."""
    report, good = verdict(result), verdict(GOOD)

    assert 1 == len(report.faults + report.slow)
    assert [] == good.faults + good.slow


@pytest.mark.parametrize(
    ("run", "may_see", "leaks"),
    [
        pytest.param({}, True, 0, id="own"),
        pytest.param({}, False, 1, id="hidden"),
        pytest.param({"uuid": uuid_of(OTHER_ID)}, True, 1, id="another-run"),
        pytest.param({"run_group_id": group_of(OTHER_ID)}, True, 1, id="group"),
        pytest.param({"name": "9.0"}, True, 1, id="too-old"),
    ],
)
def test_answer_that_a_caller_must_not_get_is_a_leak(
    run: dict[str, str], leaks: int, *, may_see: bool
) -> None:
    """The callers notice what isn't the content of their run, or is too old."""
    got = Got()
    usual = {"uuid": uuid_of(RUN_ID), "run_group_id": group_of(RUN_ID), "name": "11.0"}
    answer = Run(id=RUN_ID, **(usual | run))
    Callers([], got).check(RUN_ID, answer, oldest=10.0, may_see=may_see)

    assert leaks == got.leaks.total()


@pytest.mark.parametrize("name", QUIET)
async def test_attack_changes_what_it_finds(name: str) -> None:
    """The attack works on keys of each type, and on an empty store."""
    async with store.serving() as (valkey, _line):
        attacker = Attacker(valkey.port, seed=1)
        try:
            await ATTACKS[name](attacker)
            async with Redis(port=valkey.port) as client:
                await client.hset("hash", mapping={"a": "1", "b": "2"})
                await client.set("text", "3")
                await client.rpush("list", "4")
            before = await attacker.values()
            seen = []
            for _ in range(5):
                await ATTACKS[name](attacker)
                seen.append(await attacker.values())
        finally:
            await attacker.close()

    assert all(each == before for each in seen) == (name in {"messages", "replays"})
