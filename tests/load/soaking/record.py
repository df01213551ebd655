"""Collects the results of a soak."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from load.soaking.judge import Asked, CallEnd, label_of
from load.soaking.samples import Finding, Sample, outcome_of, percentile

MAX_PRINTED = 30  # disagreements that are printed; all are counted


@dataclass(slots=True)
class Record:
    """Counts calls, ends and disagreements, in all and since the last sample."""

    calls: int = 0
    unmade: int = 0  # calls, because too many were open
    stalls: int = 0  # of this program
    disagreements: int = 0
    printed: list[str] = field(default_factory=list)  # the first disagreements
    ends: Counter[str] = field(default_factory=Counter)  # by kind of call and label
    samples: list[Sample] = field(default_factory=list)
    _outcomes: Counter[str] = field(default_factory=Counter)  # since the last sample
    _latencies_ms: list[float] = field(default_factory=list)  # of answers, as above

    def end(self, kind: str, asked: Asked, end: CallEnd) -> None:
        """Count how a call ended."""
        label = label_of(end)
        self.ends[f"{kind}: {label}"] += 1
        self._outcomes[outcome_of(label)] += 1
        if label == "OK":
            self._latencies_ms.append((end.ended - asked.begun) * 1000)

    def disagree(self, name: str, *faults: str) -> None:
        """Record what is wrong with something; nothing if `faults` is empty."""
        self.disagreements += len(faults)
        left = MAX_PRINTED - len(self.printed)
        self.printed += [f"{name}: {fault}" for fault in faults[:left]]

    def sample(
        self,
        *,
        at: float,
        memory_mib: float,
        files: int,
        threads: int,
        connections: int,
    ) -> None:
        """Record one second: the gateway's resources, and the ends of calls."""
        latencies, self._latencies_ms = self._latencies_ms, []
        outcomes, self._outcomes = self._outcomes, Counter()
        sample = Sample(
            at=at,
            memory_mib=memory_mib,
            files=files,
            threads=threads,
            connections=connections,
            p50_ms=percentile(latencies, 0.5),
            p99_ms=percentile(latencies, 0.99),
            outcomes=outcomes,
        )
        self.samples.append(sample)

    def findings(self) -> list[Finding]:
        """Return the disagreements as findings, and their number."""
        sentence = f"{self.disagreements} disagreements in {self.calls} calls"
        count = Finding(sentence, fails=self.disagreements > 0)
        return [*(Finding(each, fails=True) for each in self.printed), count]
