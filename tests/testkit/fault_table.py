"""The table of faults, by number, with the outcomes of the tests of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

CASES = {
    1: "AWS's eight errors, and each common one",
    2: "one error in each place and spelling",
    3: "transient errors, and permanent ones",
    4: "the wait that AWS asks for",
    5: "pages of a proxy",
    6: "AWS's sentence with an ARN",
    7: "malformed error bodies",
    8: "redirects",
    9: "a steady 500 for 200 callers",
    10: "malformed successes",
    11: "bodies cut, reset, endless, over the cap",
    12: "an answer about another run",
    13: "a slow drip, and silence",
    14: "kept-alive connections that were closed",
    15: "documents at the limits of a Value",
    16: "members at the limits of their fields",
    17: "invalid ids",
    18: "exports",
    19: "invalid bytes, sizes and metadata",
    20: "deadlines, and clients that leave",
    21: "unknown methods, and a bug",
    22: "a crowd for one run",
    23: "a crowd for one run, of which some leave",
    24: "a crowd for one run that fails",
    25: "more runs than the quota allows",
    26: "other users of the account",
    27: "a scanner beside a caller of one run",
    28: "a run that appears",
    29: "an id that is used again",
    30: "an endpoint that can't be reached or trusted",
    31: "credentials missing, stalled, expired",
    32: "a wrong clock",
    33: "abuse of HTTP/2",
    34: "SIGTERM under load",
    35: "SIGTERM while HealthOmics hangs",
    36: "invalid settings",
    37: "a certificate that is replaced",
    38: "a crowd that watches one run",
    39: "a slow watcher among fast ones",
    40: "a watch whose polls fail",
    41: "watchers that disconnect and return",
}

LEGEND = (
    "Outcomes are reasons of the gateway, codes of gRPC itself (core), `late` for calls"
    " that\na shutdown refuses as it should, and `exit` for the exit codes of `serve`."
)


@dataclass(slots=True)
class Tally:
    """The outcomes of one test, or of all tests of a case."""

    calls: int = 0  # to the gateway, except the witness's
    outcomes: Counter[str] = field(default_factory=Counter)  # by reason
    wrong: int = 0  # a code or reason other than the row's
    silent: int = 0  # neither an answer nor a reason in time
    leaked: int = 0  # secrets (canaries) in errors or logs

    def plain(self) -> dict[str, object]:
        """Return the tally as values that can be sent between processes."""
        return {
            "calls": self.calls,
            "outcomes": dict(self.outcomes),
            "wrong": self.wrong,
            "silent": self.silent,
            "leaked": self.leaked,
        }


@dataclass(slots=True)
class Row:
    """The results of the tests of a case."""

    passed: int = 0
    failed: int = 0
    tally: Tally = field(default_factory=Tally)

    def add(self, tally: Mapping[str, object]) -> None:
        """Add the outcomes of one more test."""
        for name, value in tally.items():
            if isinstance(value, dict):
                self.tally.outcomes.update(value)
            else:
                setattr(self.tally, name, getattr(self.tally, name) + value)


def table(rows: Mapping[int, Row]) -> Iterator[str]:
    """Return a line for each case that ran, a legend and the totals."""
    yield f"{'case':>4}  {'':44}{'tests':>6}{'calls':>7}  outcomes"
    for number, title in CASES.items():
        if number in rows:
            row = rows[number]
            mark = f"  FAILED {row.failed}" if row.failed else ""
            yield (
                f"{number:>4}  {title:44}{row.passed + row.failed:>6}"
                f"{row.tally.calls:>7}  {_seen(row.tally.outcomes.items())}{mark}"
            )
    totals = {
        name: sum(getattr(row.tally, name) for row in rows.values())
        for name in ("wrong", "silent", "leaked")
    }
    yield LEGEND
    yield (
        f"{len(rows)} of {len(CASES)} cases: {totals['wrong']} wrong codes or reasons,"
        f" {totals['silent']} calls without an outcome in time,"
        f" {totals['leaked']} secrets in errors or logs"
    )


def _seen(outcomes: Iterable[tuple[str, int]]) -> str:
    return " ".join(f"{name}:{count}" for name, count in sorted(outcomes)) or "-"
