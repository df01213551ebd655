"""A replica's relation to its store: attached, detached, and back, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.shared.pace import BEAT_SECONDS, MAX_PROBE_SECONDS
from healthomics_gateway.shared.replica import (
    COMMAND_SECONDS,
    FULL_SECONDS,
)
from healthomics_gateway.shared.store import (
    ALIVE_SECONDS,
    FORGET_SECONDS,
    SETTLE_SECONDS,
    Members,
    Rate,
    Reservation,
    Store,
    StoreError,
    StoreFullError,
)
from testkit.faulty_store import Server
from testkit.members import CUT, Member, until
from testkit.virtual_time import now, virtually

RATE = Rate(8.0, 2.0)


class Rig:
    """Replicas at one store in memory."""

    def __init__(self, number: int = 1, expected: int = 1) -> None:
        """Start them."""
        self.server = Server()
        self.members = [self.add(expected) for _ in range(number)]
        self.replicas = [each.replica for each in self.members]
        self.store, self.replica = self.members[0].store, self.replicas[0]

    def add(self, expected: int = 1) -> Member:
        """Start a further one."""
        return Member(self.server, replicas=expected, jitter=lambda: 1.0)

    def write(self, value: bytes) -> None:
        """Write a value to the entry `e`, and so publish it."""
        self.server.memory.write("e", "x", value, age_seconds=0.0, keep_seconds=1.0)

    async def reserve(self) -> Reservation:
        """Take a token by the first replica."""
        return await self.replica.ask(
            lambda store: store.reserve("q", RATE, replica=self.replica.id)
        )


def in_rig(
    test: Callable[[Rig], Any], number: int = 1, expected: int = 1
) -> list[dict[str, Any]]:
    """Run a test with a rig in virtual time; return what was logged."""

    async def run() -> None:
        rig = Rig(number, expected)
        await asyncio.sleep(0.2)
        await test(rig)

    with capture_logs() as logs:
        virtually(run)
    return logs


def test_replica_attaches_when_the_store_answers() -> None:
    """It is detached until then, and knows why."""

    async def test(rig: Rig) -> None:
        new = rig.add(3).replica
        assert "it isn't reached yet" == new.fault
        with pytest.raises(StoreError, match="isn't reached yet"):
            await new.ask(lambda store: store.leave("a"))
        assert rig.replica.is_attached
        assert "" == rig.replica.fault
        assert frozenset({rig.replica.id}) == rig.replica.attached

    assert ["store_attached"] == [each["event"] for each in in_rig(test)]


def test_store_that_is_not_reached_at_the_start_is_logged_once() -> None:
    """Else nothing but readiness says that the replica uses its static share."""

    async def test() -> None:
        server = Server()
        server.fault = StoreError("it is gone")
        Member(server, replicas=2)
        await asyncio.sleep(60.0)
        server.fault = None
        await asyncio.sleep(3.0)

    with capture_logs() as logs:
        virtually(test)

    assert ["store_detached", "store_attached"] == [each["event"] for each in logs]
    assert ("it is gone", 2) == (logs[0]["why"], logs[0]["replicas"])


def test_replica_knows_the_others_before_it_is_used() -> None:
    """Calls compute their share while many subscriptions are still renewed."""

    async def test(rig: Rig) -> None:
        new = rig.add()
        new.store.delay = lambda: 0.04
        await new.replica.subscribe("e", lambda _value: None)
        await until(lambda: new.store.commands["subscribe"] > 0)
        assert new.replica.is_attached
        assert {rig.replica.id, new.replica.id} == new.replica.attached

    in_rig(test)


def test_store_that_answers_only_beats_is_used_less_and_less() -> None:
    """Else calls would never use the static share, as each attachment ends it."""
    ends: list[float] = []

    async def test(rig: Rig) -> None:
        rig.store.faults["reserve"] = StoreError("it fails")
        begun = now()
        while now() < begun + 60:
            if rig.replica.is_attached:
                ends.append(now())
                with pytest.raises(StoreError):
                    await rig.reserve()
            await asyncio.sleep(0.01)

    in_rig(test)

    assert len(ends) < 12
    assert max(later - end for end, later in pairwise(ends)) > 9


def test_command_that_takes_too_long_detaches() -> None:
    """Its caller waits COMMAND_SECONDS, and the next one not at all."""

    async def test(rig: Rig) -> None:
        rig.store.delay = lambda: 1.0
        begun = now()
        with pytest.raises(StoreError, match="doesn't answer within 50 ms"):
            await rig.reserve()
        assert pytest.approx(COMMAND_SECONDS) == now() - begun
        with pytest.raises(StoreError, match="doesn't answer within 50 ms"):
            await rig.reserve()
        assert pytest.approx(COMMAND_SECONDS) == now() - begun
        assert not rig.replica.is_attached
        assert 1 == rig.replica.errors

    logs = in_rig(test)
    assert ["store_attached", "store_detached"] == [each["event"] for each in logs]


def test_replica_attaches_again_after_two_answers_in_time() -> None:
    """While it is detached it asks rarely; one answer isn't enough."""

    async def test(rig: Rig) -> None:
        rig.store.delay = lambda: 1.0
        with pytest.raises(StoreError):
            await rig.reserve()
        before = rig.store.commands["beat"]
        await asyncio.sleep(60.0)
        assert (
            60 / (MAX_PROBE_SECONDS + COMMAND_SECONDS)
            <= rig.store.commands["beat"] - before
        )
        assert rig.store.commands["beat"] - before <= 70
        rig.store.delay = lambda: 0.0
        await asyncio.sleep(MAX_PROBE_SECONDS + 0.1)
        assert rig.replica.is_attached

    in_rig(test)


@pytest.mark.parametrize(("drawn", "part"), [(0.0, 0.5), (0.8, 0.9)])
def test_replicas_probe_at_different_times(drawn: float, part: float) -> None:
    """A store that comes back doesn't get the beats of all of them at once."""
    begun: list[float] = []

    def late() -> float:
        begun.append(now())
        return 3600.0

    async def test() -> None:
        Member(Server(), replicas=2, jitter=lambda: drawn).store.delay = late
        await asyncio.sleep(20.0)  # until the pauses don't become longer any more

    virtually(test)
    pause = begun[-1] - begun[-2] - COMMAND_SECONDS

    assert part * MAX_PROBE_SECONDS == pytest.approx(pause)


def test_reason_of_a_failed_connection_is_kept_while_probes_are_late() -> None:
    """Connecting takes longer than a probe waits, and fails for the same reason."""

    async def test(rig: Rig) -> None:
        rig.store.delay = lambda: 1.0
        rig.store.unreached = "it refuses the password"
        await asyncio.sleep(10.0)
        assert "it refuses the password" == rig.replica.fault
        rig.store.unreached = ""  # connected, but it is slow
        await asyncio.sleep(MAX_PROBE_SECONDS + COMMAND_SECONDS)
        assert "it doesn't answer within 50 ms" == rig.replica.fault

    (_, detached) = in_rig(test)
    assert "it refuses the password" == detached["why"]


def test_full_store_does_not_detach() -> None:
    """Values can't be written, but the quota still works; it is logged once."""

    async def test(rig: Rig) -> None:
        rig.store.faults["write"] = StoreFullError("it has no free memory")
        for _ in range(2):
            with pytest.raises(StoreFullError):
                await rig.replica.write(write)
        await rig.reserve()
        assert rig.replica.is_attached
        assert "it has no free memory" == rig.replica.full
        assert 2 == rig.replica.errors
        del rig.store.faults["write"]
        for _ in range(2):
            await rig.replica.write(write)
        assert "" == rig.replica.full

        rig.store.faults["write"] = StoreFullError("it has no free memory")
        with pytest.raises(StoreFullError):
            await rig.replica.write(write)
        await asyncio.sleep(FULL_SECONDS + BEAT_SECONDS)  # without another value
        assert "" == rig.replica.full

    async def write(store: Store) -> None:
        await store.write("e", "x", b"1", age_seconds=0.0, keep_seconds=1.0)

    events = [each["event"] for each in in_rig(test)]
    full = ["store_full", "store_has_room", "store_full"]
    assert ["store_attached", *full] == events


@pytest.mark.guarantee("quota-of-replicas")
def test_attachment_of_which_the_answer_is_lost_delays_the_static_share() -> None:
    """The store counts the replica as attached, and gives its share to the others."""

    async def test(rig: Rig) -> None:
        one, other = rig.members
        await one.detach()
        await asyncio.sleep(2 * SETTLE_SECONDS)
        assert one.replica.settled_at < now()
        delays = iter((0.0, 1.9 * COMMAND_SECONDS))  # of the probe, and the attachment
        one.store.delay = lambda: next(delays)
        one.store.fault, before = None, one.store.commands["beat"]
        await until(lambda: one.store.commands["beat"] == before + 2)
        claimed_at = now()
        await asyncio.sleep(COMMAND_SECONDS)
        one.store.fault = CUT
        while now() < claimed_at + SETTLE_SECONDS - 0.02:
            assert not one.replica.is_attached
            assert now() < one.replica.settled_at
            await asyncio.sleep(0.01)
        assert one.replica.id in other.replica.attached
        await asyncio.sleep(0.02)
        assert one.replica.settled_at <= now()

    in_rig(test, number=2)


def test_replicas_learn_their_number_and_keep_it() -> None:
    """Without the store, their shares are computed from what they knew last."""

    async def test(rig: Rig) -> None:
        await asyncio.sleep(1.0)
        assert [3, 3, 3] == [each.replicas for each in rig.replicas]
        rig.server.fault = StoreError("it is gone")
        await asyncio.sleep(1.0)
        assert not any(each.is_attached for each in rig.replicas)
        assert [3, 3, 3] == [each.replicas for each in rig.replicas]

    in_rig(test, number=3, expected=1)


def test_share_of_a_dead_replica_is_kept_for_a_while() -> None:
    """It may only have lost the store, and use its static share."""

    async def test(rig: Rig) -> None:
        rig.members[1].kill()
        await asyncio.sleep(ALIVE_SECONDS + BEAT_SECONDS)
        assert {rig.replica.id} == rig.replica.attached
        assert 2 == rig.replica.replicas
        assert RATE.tps / 2 == (await rig.reserve()).tps
        await asyncio.sleep(FORGET_SECONDS - ALIVE_SECONDS)
        assert RATE.tps == (await rig.reserve()).tps

    in_rig(test, number=2)


def test_replica_that_leaves_is_forgotten_at_once() -> None:
    """Its beats end, too, so that it doesn't come back."""

    async def test(rig: Rig) -> None:
        await rig.replicas[1].leave()
        await asyncio.sleep(BEAT_SECONDS + 0.1)
        assert {rig.replica.id} == rig.replica.attached
        assert RATE.tps == (await rig.reserve()).tps
        assert rig.members[1].following.done()
        rig.store.fault = StoreError("it is gone")
        with pytest.raises(StoreError):
            await rig.reserve()
        await rig.replica.leave()  # nothing to tell

    in_rig(test, number=2)


@pytest.mark.parametrize("beats", [1, 2])
def test_replica_that_leaves_while_it_attaches_is_forgotten(beats: int) -> None:
    """The others get its share at once, whichever of its beats is under way."""

    async def test(rig: Rig) -> None:
        member = rig.add()
        member.store.delay, new = lambda: 0.02, member.replica
        await asyncio.sleep(0.02 * beats - 0.015)
        await new.leave()
        await asyncio.sleep(BEAT_SECONDS + 0.1)
        assert not new.is_attached
        assert {rig.replica.id} == rig.replica.attached
        assert 1 == rig.replica.replicas

    in_rig(test)


def test_replica_that_the_store_has_forgotten_attaches_again() -> None:
    """It was flushed: what was told to it has to be told again."""
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    async def test(rig: Rig) -> None:
        rig.replica.on_change(changed)
        rig.server.memory.leave(rig.replica.id)
        with pytest.raises(StoreError, match="doesn't know this replica"):
            await rig.reserve()
        assert 1 == changes
        await asyncio.sleep(1.0)
        assert rig.replica.is_attached
        rig.server.memory.leave(rig.replica.id)
        await asyncio.sleep(1.0)
        assert rig.replica.is_attached
        assert 3 == changes

    in_rig(test)


def test_store_that_forgets_at_once_is_not_used() -> None:
    """It has no memory, so it would give no tokens; one that is wiped once does."""

    async def test(rig: Rig) -> None:
        only = Members(frozenset({rig.replica.id}), expected=1, was_known=False)
        rig.store.answers["beat"] = only
        await asyncio.sleep(BEAT_SECONDS)
        assert rig.replica.is_attached
        await asyncio.sleep(BEAT_SECONDS)
        assert not rig.replica.is_attached
        for _ in range(20):
            await asyncio.sleep(MAX_PROBE_SECONDS)
            assert not rig.replica.is_attached
            assert "raise its maxmemory" in rig.replica.fault
        rig.store.answers.clear()
        await asyncio.sleep(2 * MAX_PROBE_SECONDS)
        assert rig.replica.is_attached

    in_rig(test)


def test_values_arrive_also_if_they_were_subscribed_to_without_the_store() -> None:
    """The subscription is made when the replica attaches."""
    got: list[bytes] = []

    async def test(rig: Rig) -> None:
        rig.store.fault = StoreError("it is gone")
        with pytest.raises(StoreError):
            await rig.reserve()
        await rig.replica.subscribe("e", got.append)
        rig.write(b"lost")
        rig.store.fault = None
        await asyncio.sleep(1.0)
        rig.write(b"got")
        await asyncio.sleep(0.1)
        await rig.replica.unsubscribe("e")
        rig.write(b"late")
        await rig.replica.unsubscribe("e")

    in_rig(test)
    assert [b"got"] == got
