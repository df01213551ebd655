"""The check of calls by rules, and that of long calls by new rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.auth.policy import ALL_METHODS, Policy, Rule
from healthomics_gateway.context import CallContext
from healthomics_gateway.interceptors.authorize import CHECKED_AT_ONCE, Authorization
from testkit.serving import call_context, end_of

LIMS, METHOD = "lims", "WatchRun"
GROUP, PROJECT = "7654321", "wgs"
ROLE = "arn:aws:iam::123456789012:role/reader"
SHOWN = Run(id="1", run_group_id=GROUP, tags={"project": PROJECT})
REFUSED = "CALLER_NOT_AUTHORIZED"


def rule(identity: str = LIMS, **what: Any) -> Rule:
    """Return a rule for all methods."""
    return Rule(identity, **{"methods": ALL_METHODS, **what})


class World:
    """Long calls by rules that change."""

    def __init__(self, *rules: Rule) -> None:
        """Begin with these rules."""
        self.policy = Policy(rules)
        self.authorization = Authorization(self.policy)
        self.handle = self.authorization.lasting(METHOD)(self._proceed)
        self.calls: list[CallContext] = []
        self.ends = asyncio.Event()

    async def _proceed(self, _incoming: Any, call: CallContext) -> bytes:
        self.calls.append(call)
        await self.ends.wait()
        return b"ended"

    async def call(self, run: Run | None = SHOWN, identity: str = LIMS) -> str:
        """Make a long call that has shown a run; return how it ends."""
        call = call_context()
        call.identity = identity
        call.watched = lambda: run
        return await end_of(self.handle(None, call))

    async def change(self, *rules: Rule) -> None:
        """Replace the rules."""
        await asyncio.sleep(0)  # calls begin
        self.policy.replace(rules)
        await self.authorization.check()


@pytest.mark.guarantee("reload-watches")
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(rule(), "ended", id="same"),
        pytest.param(rule("*", calls_per_second=1.0), "ended", id="another-pattern"),
        pytest.param(rule("other"), REFUSED, id="caller"),
        pytest.param(rule(methods=frozenset({"GetRun"})), REFUSED, id="method"),
        pytest.param(rule(run_groups=frozenset({GROUP})), "ended", id="its-group"),
        pytest.param(rule(run_groups=frozenset({"1"})), REFUSED, id="another-group"),
        pytest.param(rule(tags={"project": PROJECT}), "ended", id="its-tag"),
        pytest.param(rule(tags={"project": "rna"}), REFUSED, id="another-tag"),
        pytest.param(rule(aws_role=ROLE), REFUSED, id="role"),
    ],
)
async def test_long_call_is_checked_by_new_rules(after: Rule, expected: str) -> None:
    """A call that the new rules don't allow ends; any other goes on."""
    world = World(rule())
    call = asyncio.create_task(world.call())
    await world.change(after)
    world.ends.set()

    assert expected == await call
    assert [expected == REFUSED] == [each.is_revoked for each in world.calls]


async def test_long_call_has_the_access_of_the_new_rules() -> None:
    """What is withheld follows the rules, and so do further checks of the run."""
    world = World(rule())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.call())
        await world.change(
            rule(withhold=frozenset({"name"}), run_groups=frozenset({GROUP}))
        )
        access = world.calls[0].access
        world.ends.set()

    assert frozenset({"name"}) == access.rule.withhold
    assert not access.sees(Run(id="1", run_group_id="1"))


async def test_watch_without_a_state_goes_on() -> None:
    """A restricted watch whose run hasn't been read yet is checked when it is."""
    world = World(rule())
    call = asyncio.create_task(world.call(run=None))
    await world.change(rule(run_groups=frozenset({"1"})))
    world.ends.set()

    assert "ended" == await call


async def test_rules_that_change_twice_end_a_call_once() -> None:
    """A call that is about to end isn't ended again."""
    world = World(rule())
    call = asyncio.create_task(world.call())
    await world.change(rule("other"))
    await world.authorization.check()

    assert REFUSED == await call


async def test_client_that_cancels_is_not_refused() -> None:
    """A cancellation by the client stays one."""
    world = World(rule())
    call = asyncio.create_task(world.call())
    await world.change(rule())
    call.cancel()

    assert "cancelled" == await call


async def test_crowd_is_checked_in_parts() -> None:
    """Other calls run, and some end, while many long calls are checked."""
    world = World(rule("*"))
    number = 4 * CHECKED_AT_ONCE
    calls = [
        asyncio.create_task(world.call(identity=f"caller {at}")) for at in range(number)
    ]
    await asyncio.sleep(0)
    world.policy.replace([rule("caller 1")])
    checking = asyncio.create_task(world.authorization.check())
    await asyncio.sleep(0)
    revoked = sum(each.is_revoked for each in world.calls)
    calls[-1].cancel()
    await checking
    world.ends.set()
    ends = await asyncio.gather(*calls)

    assert CHECKED_AT_ONCE - 1 == revoked
    assert {REFUSED: number - 2, "ended": 1, "cancelled": 1} == {
        each: ends.count(each) for each in set(ends)
    }
