"""The sums of counters over workers that come and go."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from healthomics_gateway.telemetry.metrics.totals import Series, Totals

A: Series = ("a_total", ())
B: Series = ("b_total", (("rule", "1"),))

# A worker, and by how much each of its counters has grown; None if it has ended. A
# counter that has no growth is gone, as that of a rule that a reload has removed.
Step: TypeAlias = tuple[int, dict[Series, float] | None]

steps = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.one_of(
            st.none(),
            st.dictionaries(
                st.sampled_from([A, B]), st.integers(0, 5).map(float), max_size=2
            ),
        ),
    ),
    max_size=40,
)


@given(steps=steps)
def test_no_counter_ever_goes_down(steps: list[Step]) -> None:
    """Whatever workers report, end or restart, a series that stays doesn't shrink."""
    totals = Totals()
    values: defaultdict[int, dict[Series, float]] = defaultdict(dict)
    before: dict[Series, float] = {}
    for worker, growth in steps:
        if growth is None:
            values.pop(worker, None)
            totals.end(worker)
        else:
            known = values[worker]
            values[worker] = {
                each: known.get(each, 0.0) + more for each, more in growth.items()
            }
            totals.put(worker, values[worker])
        now = totals.sums()
        assert {} == {
            each: (before[each], now[each])
            for each in before.keys() & now.keys()
            if now[each] < before[each]
        }
        before = now


@given(
    counts=st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 5), st.booleans()), max_size=40
    )
)
def test_sum_is_what_all_workers_have_counted(
    counts: list[tuple[int, int, bool]],
) -> None:
    """With series that stay, the sum is exactly the number of what has happened."""
    totals = Totals()
    values: defaultdict[int, float] = defaultdict(float)
    happened = 0
    for worker, more, has_ended in counts:
        values[worker] += more
        happened += more
        totals.put(worker, {A: values[worker]})
        if has_ended:
            totals.end(worker)
            del values[worker]

    assert float(happened) == sum(totals.sums().values())


def test_series_is_kept_while_no_worker_runs() -> None:
    """Between the end of the only worker and the next report its counts are shown."""
    totals = Totals()
    totals.put(1, {A: 3.0})
    totals.end(1)
    without = totals.sums()
    totals.put(1, {A: 0.0})

    assert {A: 3.0} == without == totals.sums()


def test_series_that_no_worker_reports_is_forgotten() -> None:
    """The counts of a rule that is gone aren't kept, and begin at 0 if it returns."""
    totals = Totals()
    totals.put(1, {A: 3.0, B: 4.0})
    totals.put(1, {A: 3.0})
    without = totals.sums()
    totals.put(1, {A: 3.0, B: 1.0})

    assert ({A: 3.0}, {A: 3.0, B: 1.0}) == (without, totals.sums())


def test_series_that_another_worker_still_reports_keeps_all_counts() -> None:
    """While workers reload their rules one after another, no count is lost."""
    totals = Totals()
    totals.put(1, {B: 4.0})
    totals.put(2, {B: 1.0})
    totals.put(1, {})

    assert {B: 5.0} == totals.sums()


def test_end_of_a_worker_that_has_not_reported_changes_nothing() -> None:
    """A worker may end before its first report."""
    totals = Totals()
    totals.end(1)

    assert {} == totals.sums()
