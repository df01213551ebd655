"""How many calls and polls wait for their turn, for the metrics and the status page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from healthomics_gateway.app.wiring import UpstreamParts

CALL, POLL = "call", "poll"


def waiting(upstream: UpstreamParts) -> Mapping[str, Counter[str]]:
    """Return how many calls and polls wait for a turn, for each account.

    A poll waits in one queue after another.
    """
    found: dict[str, Counter[str]] = {}
    for schedulers in (upstream.schedulers, upstream.poll_schedulers):
        for account, each in schedulers.by_account.items():
            polls = each.waiting_polls
            here = {CALL: each.waiting - polls, POLL: polls}
            found.setdefault(account, Counter()).update(here)
    return found
