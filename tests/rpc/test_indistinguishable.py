"""A run that a caller may not see, and one that isn't there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from callers import NOWHERE, OTHER, THEIRS, called, token
from faults.indistinguishable import ASKS, RULES, SLOWLY, measure, truth
from faults.lying import LyingUpstream

CALLS = 25  # about each; `make indistinguishable` makes more, and looks at the time


@pytest.mark.parametrize("name", ASKS)
async def test_refusals_of_both_are_one_and_the_same(tmp_path: Path, name: str) -> None:
    """Whatever a caller sees is equal, and so is what each call costs HealthOmics."""
    upstream = LyingUpstream(truth=truth)
    async with called(tmp_path, *RULES, upstream=upstream, **SLOWLY) as gateway:
        await gateway.get(THEIRS, token(OTHER))  # memory has it from now on
        before = Counter(upstream.asked)
        found = await measure(gateway, ASKS[name], CALLS)

    ((code, reason, *_),) = found.told
    assert ("PERMISSION_DENIED", "CALLER_NOT_AUTHORIZED") == (code.name, reason)
    assert {THEIRS: CALLS, NOWHERE: CALLS} == upstream.asked - before
