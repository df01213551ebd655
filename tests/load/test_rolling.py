"""The judgement of `make rolling`, and the decision to resume a watch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import grpc
import pytest
from google.rpc import error_details_pb2

from load.rolling import BACK_SECONDS, WATCHED, Result, retry_delay
from testkit.builders import Refusal

ALL = len(WATCHED)
GOOD = Result(
    calls=1000,
    resumed=Counter(GATEWAY_DRAINING=ALL),
    ends=Counter(COMPLETED=ALL),
    exit_codes=[0, 0],
    served=Counter(first=10, second=10),
)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(replace(GOOD, calls=0), id="no-call"),
        pytest.param(replace(GOOD, failed=Counter(UNAVAILABLE=1)), id="failed-call"),
        pytest.param(replace(GOOD, outdated=1), id="old-rules"),
        pytest.param(replace(GOOD, resumed=Counter()), id="no-watch-moved"),
        pytest.param(replace(GOOD, ends=Counter(COMPLETED=ALL - 1)), id="lost-watch"),
        pytest.param(
            replace(GOOD, ends=Counter(COMPLETED=ALL - 1, RUNNING=1)), id="early-end"
        ),
        pytest.param(replace(GOOD, exit_codes=[0, 1]), id="forced-end"),
        pytest.param(replace(GOOD, exit_codes=[0, None]), id="no-end"),
        pytest.param(replace(GOOD, served=Counter(first=9, second=0)), id="idle"),
    ],
)
def test_one_thing_that_goes_wrong_is_a_fault(result: Result) -> None:
    """Each loss is a fault, and a result without one has none."""
    assert 1 == len(list(result.faults))
    assert [] == list(GOOD.faults)


@pytest.mark.parametrize(
    ("code", "info", "expected"),
    [
        pytest.param("UNAVAILABLE", {"seconds": 2}, 2.0, id="retry-info"),
        pytest.param("PERMISSION_DENIED", None, None, id="final"),
        pytest.param("UNAVAILABLE", {}, BACK_SECONDS, id="cut"),
    ],
)
def test_watch_is_resumed_as_documented(
    code: str, info: dict[str, int] | None, expected: float | None
) -> None:
    """A gateway's error says when; a cut stream is resumed after a pause."""
    refusal = Refusal(
        grpc.aio.AioRpcError(
            grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata()
        )
    )
    if info != {}:
        refusal.details["ErrorInfo"] = error_details_pb2.ErrorInfo()
    if info:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(info["seconds"])
        refusal.details["RetryInfo"] = retry

    assert expected == retry_delay(refusal)
