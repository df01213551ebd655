"""What the callers of the load saw, as it travels between the programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Self

MOST_FAILURES = 20_000


@dataclass(frozen=True, slots=True)
class Failure:
    """A call or a stream that ended with an error."""

    at: float  # of the monotonic clock
    kind: str  # of the load
    channel: int  # its number
    reason: str  # the gateway's; else the code of gRPC


@dataclass(slots=True)
class Seen:
    """The results of the load; at most MOST_FAILURES are kept, all are counted."""

    answers: Counter[str] = field(default_factory=Counter)  # by kind
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    wrong: list[str] = field(default_factory=list)  # answers that must not be
    waits: list[float] = field(default_factory=list)  # seconds, of fresh answers
    ends: dict[str, float] = field(default_factory=dict)  # watch: time of its end
    watches: int = 0

    def fail(self, failure: Failure) -> None:
        """Record a failure."""
        self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(failure)

    def dump(self) -> str:
        """Return this as JSON on one line."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps(values | {"failures": list(map(asdict, self.failures))})

    @classmethod
    def load(cls, text: str | bytes) -> Self:
        """Return what `dump` has written."""
        read = json.loads(text)
        read["answers"] = Counter(read["answers"])
        read["failures"] = [Failure(**each) for each in read["failures"]]
        return cls(**read)
