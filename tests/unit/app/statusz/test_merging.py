"""What the status page shows of several workers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from healthomics_gateway.app.statusz import shape
from healthomics_gateway.app.statusz.blank import blank
from healthomics_gateway.app.statusz.bounds import MAX_ACCOUNTS
from healthomics_gateway.app.statusz.merging import ended, merged
from healthomics_gateway.app.statusz.merging_quotas import merged_quotas
from healthomics_gateway.app.statusz.rendering import as_html, as_json
from healthomics_gateway.telemetry.quota_scope import ALL, GATEWAY
from healthomics_gateway.telemetry.recent import (
    MAX_ERRORS,
    SLOT_SECONDS,
    SLOTS,
    ReasonCount,
    SlotUse,
)
from testkit.snapshots import (
    NOW,
    at_rest,
    certificate,
    error,
    errors,
    loaded,
    quota,
    slot,
)

NOTHING = blank(NOW)


def both(
    *states: shape.Snapshot, past: shape.Snapshot = NOTHING, later: float = 0.0
) -> shape.Snapshot:
    """Return what several workers show together, so many seconds after NOW."""
    living = dict(enumerate(states, start=1))
    return merged(living, past, now=NOW + timedelta(seconds=later))


def test_numbers_are_summed() -> None:
    """Calls, watches, the cache and the calls by rule are those of all workers."""
    one = loaded(calls_without_rule=2)
    state = both(one, one)

    assert shape.Calls(open=24, max_open=16_384) == state.calls
    assert shape.WatchState(open=2400, max_open=20_000, runs=80) == state.watches
    assert (180, 20, 2**27) == (
        state.cache.hits,
        state.cache.misses,
        state.cache.max_bytes,
    )
    assert [2468, 0] == [each.calls for each in state.rules]
    assert 4 == state.calls_without_rule


def test_members_that_are_equal_are_those_of_the_first_worker() -> None:
    """Settings, addresses, the Region and the versions aren't repeated."""
    one = loaded()
    state = both(one, one)

    for name in ("settings", "addresses", "region", "endpoint", "grpc_version"):
        assert getattr(one, name) == getattr(state, name)
    assert one.left_out == state.left_out


def test_what_ended_workers_have_counted_stays() -> None:
    """Counts, errors and requests of a worker stay after its end; its state doesn't."""
    past = ended(loaded(calls_without_rule=2), NOTHING)
    state = both(at_rest(rules=loaded().rules), past=past)

    assert (0, 0, 0) == (state.calls.open, state.watches.open, state.cache.bytes)
    assert (90, 2, 2 * 1234) == (
        state.cache.hits,
        state.calls_without_rule,
        state.rules[0].calls,
    )
    assert [7, 7] == [each.count for each in state.errors.by_reason]
    recent = loaded().quota[0].slots[1:]  # the first is a quarter of an hour old
    assert sum(each.used for each in recent) == state.quota[0].used


def test_ends_add_up() -> None:
    """The state of the past has all workers that have ended."""
    past = NOTHING
    for _ in range(3):
        past = ended(loaded(), past)

    assert 270 == past.cache.hits
    assert 0 == past.calls.max_open


def test_gateway_without_workers_shows_the_last_state() -> None:
    """While no worker runs, the page has what is known of those that have ended."""
    state = both(past=ended(loaded(), NOTHING))

    assert loaded().settings == state.settings
    assert (8.0, 0) == (state.quota[0].limit_per_second, state.quota[0].waiting_calls)
    assert as_html(state)


def test_gateway_before_the_first_report_has_a_page() -> None:
    """Both formats can be rendered before anything is known."""
    assert b"HealthOmics in unknown at unknown" in as_html(both())
    assert b'"quota":[]' in as_json(both())


def test_errors_are_the_newest_of_all() -> None:
    """The newest calls are ordered by their time, and each reason has its last one."""
    calls = [
        error(request_id=str(at), time=NOW - timedelta(seconds=at)) for at in range(30)
    ]
    first, second = (
        at_rest(
            errors=shape.ErrorState(
                by_reason=[ReasonCount(count, newest[0])], newest=newest
            )
        )
        for count, newest in ((15, calls[1::2]), (20, calls[::2]))
    )
    state = both(first, second).errors

    assert calls[:MAX_ERRORS] == state.newest
    assert [ReasonCount(35, calls[0])] == state.by_reason


def test_reasons_are_ordered_by_their_number() -> None:
    """The most frequent reason of all workers together is the first."""
    frequent = error("OFTEN")
    first = at_rest(errors=errors(error("RARE")))
    second = at_rest(
        errors=shape.ErrorState(by_reason=[ReasonCount(9, frequent)], newest=[])
    )

    assert ["OFTEN", "RARE"] == [
        each.last.reason for each in both(first, second).errors.by_reason
    ]


def credentials(*, usable: bool, seconds: float | None) -> shape.Snapshot:
    """Return a worker whose credentials expire in so many seconds."""
    expires = None if seconds is None else NOW + timedelta(seconds=seconds)
    state = shape.CredentialState(
        usable=usable, expires=expires, expires_in_seconds=seconds
    )
    return at_rest(credentials=state)


def test_worst_credentials_are_shown() -> None:
    """One worker without usable credentials is shown, and the first expiry of all."""
    state = both(
        credentials(usable=True, seconds=90.0),
        credentials(usable=True, seconds=60.0),
        credentials(usable=False, seconds=None),
        later=10.0,
    ).credentials

    assert (False, 50.0) == (state.usable, state.expires_in_seconds)


def test_worst_certificate_is_shown_with_the_workers_that_have_a_fault() -> None:
    """Of each section, the first expiry of all workers is shown, and every fault."""
    old = at_rest(certificates=[certificate(60.0, fault="it isn't PEM")])
    new = at_rest(certificates=[certificate(600.0), certificate(9.0, section="b")])
    tls, other = both(new, old, old).certificates

    assert (60.0, "workers 2 and 3: it isn't PEM") == (
        tls.expires_in_seconds,
        tls.fault,
    )
    assert ("b", "") == (other.section, other.fault)
    assert "it isn't PEM" == both(old, old).certificates[0].fault


def keys(count: int, age: float | None, fault: str = "") -> shape.Snapshot:
    """Return a worker with so many keys of this age."""
    state = shape.KeyState(keys=count, age_seconds=age, due_seconds=5.0, fault=fault)
    return at_rest(keys=state)


def test_worst_keys_are_shown() -> None:
    """The fewest and oldest keys are shown, or that a worker has none."""
    old, none = both(keys(2, 60.0), keys(1, 90.0)), both(keys(2, 6.0), keys(0, None))
    faulty = both(keys(1, 1.0, "status 500"), keys(1, 1.0, "status 401"))

    assert old.keys
    assert none.keys
    assert faulty.keys
    assert (1, 90.0, "") == (old.keys.keys, old.keys.age_seconds, old.keys.fault)
    assert (0, None) == (none.keys.keys, none.keys.age_seconds)
    assert "worker 1: status 500; worker 2: status 401" == faulty.keys.fault


def with_quota(*slots: SlotUse, **changes: Any) -> shape.Snapshot:
    """Return a worker that has used its quota in these slots."""
    return at_rest(quota=[quota(*slots, **changes)])


def test_rate_of_the_quota_is_that_of_all_workers() -> None:
    """Each worker reports the rate of all; the tokens are those that each has."""
    state = both(
        with_quota(slot(0, rate=6.0), tokens=1.0, rate_per_second=6.0, scope=ALL),
        with_quota(slot(0, rate=5.0), tokens=2.0, rate_per_second=6.0, scope=ALL),
    )
    (found,) = state.quota

    assert (ALL, 8.0, 6.0, 3.0) == (
        found.scope,
        found.limit_per_second,
        found.rate_per_second,
        found.tokens,
    )
    assert 5.0 == found.slots[0].rate_per_second  # the lowest


def test_quota_is_that_of_all_gateways_while_a_worker_reaches_the_store() -> None:
    """What the others report is this gateway's share."""
    alone = with_quota(slot(0), limit_per_second=4.0, rate_per_second=4.0)
    (found,) = both(alone, with_quota(slot(0), scope=ALL)).quota
    (without,) = both(alone, alone).quota

    assert (ALL, 8.0, 8.0) == (
        found.scope,
        found.limit_per_second,
        found.rate_per_second,
    )
    assert (GATEWAY, 4.0) == (without.scope, without.limit_per_second)


def test_slots_of_workers_that_report_at_different_times_are_added() -> None:
    """A report that is three slots old still counts for the slots of its time."""
    old = replace(
        with_quota(slot(1, used=5), slot(0, used=6)),
        time=NOW - timedelta(seconds=3 * SLOT_SECONDS),
    )
    new = with_quota(slot(4, used=10), slot(3, used=20), slot(0, used=1))
    (found,) = both(old, new).quota

    assert [(75.0, 15), (60.0, 26), (15.0, 1)] == [
        (each.ago_seconds, each.used) for each in found.slots
    ]
    assert 42 == found.used


def test_first_slot_of_a_new_worker_is_added_to_that_of_the_old_one() -> None:
    """A slot in which a worker ended and its next process began is one slot."""
    gone = replace(slot(0, used=30), seconds=5.0)
    came = replace(slot(0, used=9), ago_seconds=5.0, seconds=5.0)
    past = ended(with_quota(slot(1), gone), NOTHING)
    (found,) = both(with_quota(came), past=past).quota

    last = found.slots[-1]
    assert (15.0, 15.0, 39) == (last.ago_seconds, last.seconds, last.used)


def test_slots_older_than_a_quarter_of_an_hour_are_dropped() -> None:
    """A worker that ended long ago isn't shown any more, nor are its accounts."""
    past = ended(
        at_rest(quota=[quota(slot(0, used=3)), quota(slot(0), account="1")]), NOTHING
    )
    later = SLOTS * SLOT_SECONDS
    new = replace(with_quota(slot(0, used=2)), time=NOW + timedelta(seconds=later))

    assert [2] == [each.used for each in both(new, past=past, later=later).quota]


def test_accounts_are_bounded_and_ordered() -> None:
    """The own account is the first, then the busiest ones; others are counted."""
    accounts = [
        quota(slot(0, used=at), account=f"{at:012}") for at in range(MAX_ACCOUNTS + 1)
    ]
    state = both(at_rest(quota=[*accounts, quota(slot(0))]))

    assert ["own", f"{MAX_ACCOUNTS:012}"] == [each.account for each in state.quota[:2]]
    assert MAX_ACCOUNTS == len(state.quota)
    assert 2 == state.left_out["quota"]


slots = st.lists(
    st.builds(
        slot,
        st.integers(0, SLOTS - 2),
        used=st.integers(0, 99),
        throttled=st.integers(0, 9),
        rate=st.floats(0.1, 100.0),
    ),
    unique_by=lambda each: each.ago_seconds,
    max_size=6,
).map(lambda found: sorted(found, key=lambda each: -each.ago_seconds))


@given(
    workers=st.lists(
        st.tuples(slots, st.booleans()),
        max_size=4,
    ),
    delay=st.floats(0.0, 14.0),
)
def test_no_request_is_lost_or_counted_twice(
    workers: list[tuple[list[SlotUse], bool]], delay: float
) -> None:
    """All requests and throttles of all workers are in the merged slots, in order."""
    living, past = [], NOTHING
    for use, has_ended in workers:
        state = with_quota(*use)
        if has_ended:
            past = ended(state, past)
        else:
            living.append(state)
    found = merged_quotas(living, past, now=NOW.timestamp() + delay, left_out={})

    each_slot = [each for use, _ in workers for each in use]
    assert sum(each.used for each in each_slot) == sum(each.used for each in found)
    assert sum(each.throttled for each in each_slot) == sum(
        each.throttled for each in found
    )
    for each in found:
        times = [use.ago_seconds for use in each.slots]
        assert sorted(times, reverse=True) == times
        assert len(times) <= SLOTS
        assert all(0 <= use.seconds <= SLOT_SECONDS for use in each.slots)
