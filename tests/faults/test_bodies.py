"""Successes that are none."""

from __future__ import annotations

from typing import Any

import pytest

from faults.lying import true_run
from healthomics_gateway.errors import Reason
from support import http

ID = "2000010"


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("<html>Sign in</html>", id="html"),
        pytest.param(true_run(ID)[:-5], id="truncated"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param(true_run(ID) + "x", id="trailing"),
        pytest.param("\ufeff" + true_run(ID), id="bom"),
        pytest.param(true_run(ID)[:-1] + ', "priority": NaN}', id="nan"),
    ],
)
async def test_success_that_is_none_is_malformed(rigged: Any, body: str) -> None:
    """A 200 without a JSON object is malformed after one retry, and forgotten."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(body), http(body), http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 2 == rig.upstream.asked[ID]
        run = await rig.run(ID)

    assert ID == run.id
