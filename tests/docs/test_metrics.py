"""docs/guide/metrics.md agrees with what `/metrics` serves."""

from __future__ import annotations

import re
from pathlib import Path

from healthomics_gateway.app.measuring import make_metrics
from healthomics_gateway.telemetry.metrics.calls import SECONDS
from healthomics_gateway.telemetry.metrics.registry import AGE_SECONDS
from testkit.builders import Sandbox, aws_at, gateway
from testkit.metrics import Family, scrape

DOC = (Path(__file__).parents[2] / "docs" / "guide" / "metrics.md").read_text()


def table() -> dict[str, Family]:
    """Return the type and the labels of each metric in the page's tables."""
    found = {}
    for line in DOC.splitlines():
        if line.startswith("| `"):
            name, kind, labels, meaning, _ = (
                cell.strip() for cell in line.strip("|").split("|")
            )
            assert meaning
            names = frozenset(re.findall(r"`([^`]+)`", labels))
            found[name.strip("`")] = Family(kind, names)
    return found


async def test_page_lists_every_metric_and_no_other() -> None:
    """Each metric that is served has a row with its type and labels, and vice versa."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        families = (await scrape(served)).families

    assert table() == families


def test_help_of_each_metric_is_a_sentence() -> None:
    """The help texts begin with a capital letter and end with a full stop."""
    metrics = make_metrics()
    texts = [
        family.documentation
        for family in metrics.registry.collect()
        if family.name.startswith(("grpc_", "healthomics_"))
    ]

    assert [] == [text for text in texts if not re.fullmatch(r"[A-Z].*\.", text)]


def test_page_has_the_range_of_the_buckets() -> None:
    """The page says from where to where the buckets reach."""
    text = " ".join(DOC.split())

    assert f"from {SECONDS[0] * 1000:g} ms to {SECONDS[-1]:g} s" in text
    assert f"from {AGE_SECONDS[0]:g} s to an hour" in text
    assert 3600.0 == AGE_SECONDS[-1]
