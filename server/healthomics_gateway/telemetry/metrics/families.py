"""The metrics as plain data, so that a worker can report them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Exemplar, Sample

MAX_FAMILIES = 500
MAX_SAMPLES = 20_000  # of all families; each rule has one, of at most 256 rules


@dataclass(frozen=True, slots=True)
class ReportedExemplar:
    """A call that a sample has counted."""

    labels: Mapping[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True, slots=True)
class ReportedSample:
    """A value of a series."""

    name: str
    labels: Mapping[str, str]
    value: float
    exemplar: ReportedExemplar | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its samples; the name of a counter has no `_total`."""

    name: str
    kind: str  # the type
    text: str  # the help
    samples: Sequence[ReportedSample]


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return the metrics of a registry, without values that JSON hasn't."""
    return [
        Family(
            family.name,
            family.type,
            family.documentation,
            [_sample(each) for each in family.samples if isfinite(each.value)],
        )
        for family in registry.collect()
    ]


def are_within_bounds(families: Sequence[Family]) -> bool:
    """Return whether there are no more families and samples than any worker has."""
    samples = sum(len(each.samples) for each in families)
    return len(families) <= MAX_FAMILIES and samples <= MAX_SAMPLES


def _sample(sample: Sample) -> ReportedSample:
    exemplar = _exemplar(sample.exemplar) if sample.exemplar else None
    return ReportedSample(sample.name, sample.labels, float(sample.value), exemplar)


def _exemplar(exemplar: Exemplar) -> ReportedExemplar:
    return ReportedExemplar(
        exemplar.labels, exemplar.value, float(exemplar.timestamp or 0.0)
    )
