"""The picture's rates and quantiles are those that Prometheus computes."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from load.dashboard import METRICS, OF_STORE, missing
from load.dashboarding.scrapes import WINDOW, Recording, record

COUNTER = "healthomics_gateway_rule_calls_total"
HISTOGRAM = "healthomics_gateway_queue_wait_seconds"


def exposition(at: int) -> str:
    """Return metrics that grow by known amounts a second."""
    buckets = {"1.0": 50 * at, "5.0": 90 * at, "+Inf": 100 * at}
    return "\n".join(
        [
            f"# TYPE {COUNTER} counter",
            f'{COUNTER}{{rule="1:lims"}} {3 * at}',
            f'{COUNTER}{{rule="2:portal"}} {4 * at}',
            f"# TYPE {HISTOGRAM} histogram",
            *(
                f'{HISTOGRAM}_bucket{{kind="call",le="{bound}"}} {number}'
                for bound, number in buckets.items()
            ),
            f'{HISTOGRAM}_sum{{kind="call"}} {at}',
            f'{HISTOGRAM}_count{{kind="call"}} {100 * at}',
            "",
        ]
    )


def recording(seconds: int = WINDOW + 3) -> Recording:
    """Return a scrape for each second."""
    seen = Recording()
    for at in range(seconds):
        seen.add(exposition(at), at=float(at))
    return seen


def test_rate_is_the_growth_over_the_window() -> None:
    """A counter's rate is its growth a second; unknown at the first scrape."""
    first, *others = recording().rate(COUNTER, by="rule")["1:lims"]

    assert isnan(first)
    assert [3.0] * (WINDOW + 2) == others


def test_rate_without_a_label_is_that_of_the_sum() -> None:
    """All series of a metric are added, or those with the given labels."""
    seen = recording()

    assert 7.0 == seen.rate(COUNTER)[""][-1]
    assert 4.0 == seen.rate(COUNTER, rule="2:portal")[""][-1]


@pytest.mark.parametrize(
    ("share", "seconds"),
    [
        pytest.param(0.25, 0.5, id="in the first bucket"),
        pytest.param(0.7, 3.0, id="in the second bucket"),
        pytest.param(0.99, 5.0, id="above the highest bound"),
    ],
)
def test_quantile_is_interpolated_in_its_bucket(share: float, seconds: float) -> None:
    """A quantile lies in its bucket in proportion, and at most at the highest bound."""
    assert seconds == recording().quantile(share, HISTOGRAM, kind="call")[-1]


def test_quantile_without_observations_is_unknown() -> None:
    """There is no quantile if nothing was observed, nor of an unknown metric."""
    seen = Recording()
    for at in range(3):
        seen.add(exposition(1), at=float(at))

    assert isnan(seen.quantile(0.5, HISTOGRAM, kind="call")[-1])
    assert isnan(seen.quantile(0.5, "unknown")[-1])


def test_missing_metrics_are_named() -> None:
    """Each metric of the guide that wasn't served is named, and none of a store."""
    absent = missing(recording())
    guide = METRICS.read_text()
    expected = guide.count("\n| `") - guide.count(f"\n| `{OF_STORE}")

    assert {COUNTER, HISTOGRAM}.isdisjoint(absent)
    assert "healthomics_gateway_ready" in absent
    assert expected - 2 == len(absent)


async def test_record_scrapes_a_page() -> None:
    """Each scrape has the samples of the page at its time."""
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", registry=registry)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    seen = Recording()
    try:
        counter.inc(5)
        await record(f"127.0.0.1:{server.server_port}", seen, seconds=0.01)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert {"": [5.0]} == seen.value("calls_total")


def test_picture_is_drawn(tmp_path: Path) -> None:
    """All panels are drawn, also those of metrics that nothing has changed."""
    pytest.importorskip("matplotlib", reason="it is in the group `load`")
    from load.dashboarding.picture import draw  # noqa: PLC0415  # needs matplotlib

    file = tmp_path / "dashboard.png"
    draw(recording(), [("a", 4.0), ("b", 4.0)], file)

    assert file.read_bytes().startswith(b"\x89PNG")
