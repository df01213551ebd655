"""Short HTTP/2 attacks, and their effect on callers on other connections."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from e2e.test_options import gateway_with
from load.attackers import Attacker
from load.attacks import ATTACKS, FIRST_ID, STREAMS, Attack, nothing
from load.soaking.process import ESTABLISHED
from testkit.builders import calling, get_run, http
from testkit.callers import until
from testkit.lying_upstream import TRUE_ID, Answer, LyingUpstream, Request, true_run

LARGE, UNREAD = 900_000, 24  # bytes of an answer; 21 MB of answers
PATIENCE_SECONDS = 10.0
ATTACK_SECONDS = 50.0  # below the timeout of a test, which ends it earlier
PAUSE_SECONDS = 0.01
SHARE = 0.2  # of an attack's rate, as one process runs all parties
ATTACKED = [pytest.param(each, id=name) for name, each in ATTACKS.items()]
TIMERS = {
    "server_handshake_timeout_ms": 300,
    "keepalive_time_ms": 300,
    "ping_timeout_ms": 200,
}


def answer_largely(upstream: LyingUpstream) -> None:
    """Return large runs for the attackers' requests."""

    def large(request: Request) -> Answer:
        return http(true_run(request.run_id, parameters={"sample": "x" * 20_000}))

    for at in range(STREAMS):
        upstream.lie(str(FIRST_ID + at), large)


def connections_at(port: int) -> int:
    """Return the number of attackers' connections. gRPC's own clients use IPv6."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    remote = f"0100007F:{port:04X}"
    return sum([remote, ESTABLISHED] == row.split()[2:4] for row in rows)


@pytest.mark.guarantee("http2-abuse")
@pytest.mark.fault(33)
@pytest.mark.parametrize("attack", ATTACKED)
async def test_attack_costs_other_connections_no_call(
    rigged: Any, attack: Attack
) -> None:
    """While a client attacks, every call on another connection is answered."""
    async with rigged() as rig:
        answer_largely(rig.upstream)
        gentle = replace(attack, rate=attack.rate * SHARE)
        attacker = Attacker(gentle, str(rig.served.address))
        attacking = asyncio.create_task(attacker.run(ATTACK_SECONDS))
        await asyncio.wait_for(attacker.begun.wait(), PATIENCE_SECONDS)
        answered = 0
        while answered < 20 or (attack.units is not nothing and attacker.sent < 50):
            assert TRUE_ID == (await rig.run(TRUE_ID)).id
            answered += 1
            await asyncio.sleep(PAUSE_SECONDS)  # lets the attack run
            assert not attacking.done()
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)
        await until(lambda: not rig.served.in_flight)
        bugs = [event for event in rig.log if event["event"] == "bug"]

    assert [] == bugs
    assert (attack.units is not nothing) == (attacker.sent >= 50)


@pytest.mark.guarantee("http2-abuse")
@pytest.mark.fault(33)
@pytest.mark.parametrize("name", ["silent", "preface", "window-zero", "unread"])
async def test_idle_attacker_is_closed_by_a_timer(name: str) -> None:
    """Connections that go silent, or whose client stops reading, are closed."""
    attack = replace(ATTACKS[name], rate=200.0)
    async with (
        LyingUpstream() as upstream,
        gateway_with(upstream.url, **TIMERS) as served,
        calling(served) as stub,
    ):
        answer_largely(upstream)
        await get_run(stub, TRUE_ID)
        attacker = Attacker(attack, str(served.address), again=False)
        # Longer than the patience: connections must be closed before the attack ends.
        attacking = asyncio.create_task(attacker.run(ATTACK_SECONDS))
        seen = 0  # on a busy machine the first may be closed before the last opens
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not attacker.begun.is_set():
                await asyncio.sleep(PAUSE_SECONDS)
                seen = max(seen, connections_at(served.address.port))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while connections_at(served.address.port) > 0:  # noqa: ASYNC110  # the kernel knows
                await asyncio.sleep(PAUSE_SECONDS)  # there is no event for it
        run = await get_run(stub, TRUE_ID)
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)

    assert seen > 0
    assert attack.connections == attacker.opened
    assert TRUE_ID == run.id


@pytest.mark.guarantee("unread-answers")
@pytest.mark.fault(33)
@pytest.mark.parametrize("name", ["window-zero", "watches-zero"])
async def test_unread_answers_are_limited(rigged: Any, name: str) -> None:
    """Only calls on a connection with 16 MiB of unread answers are refused."""

    def large(request: Request) -> Answer:
        return http(true_run(request.run_id, parameters={"sample": "x" * LARGE}))

    attack = replace(ATTACKS[name], units=a_few(ATTACKS[name].units), rate=500.0)
    async with rigged() as rig:
        for at in range(UNREAD):
            rig.upstream.lie(str(FIRST_ID + at), large)
        attacker = Attacker(attack, str(rig.served.address))
        attacking = asyncio.create_task(attacker.run(PATIENCE_SECONDS))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "GATEWAY_OVERLOADED" not in (each.get("reason") for each in rig.log):  # noqa: ASYNC110  # the log has no event
                await asyncio.sleep(PAUSE_SECONDS)
        assert TRUE_ID == (await rig.run(TRUE_ID)).id
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)


def a_few(units: Any) -> Any:
    """Send a few units more than may be unread."""
    return lambda number: islice(units(number), UNREAD)
