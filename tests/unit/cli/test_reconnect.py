"""The delay before a failed watch is started again."""

import grpc
from google.rpc.error_details_pb2 import BadRequest

from healthomics_gateway.cli.error_view import CallFailure
from healthomics_gateway.cli.reconnect import RetryPolicy

UNAVAILABLE = CallFailure(
    code=grpc.StatusCode.UNAVAILABLE,
    message="",
    reason="",
    is_from_gateway=False,
    bad=BadRequest(),
    retry_seconds=None,
    request_id=None,
)


def test_backoff_keeps_its_maximum_after_very_many_failures() -> None:
    """It doubles up to 30 s; 1,100 failures cause no overflow."""
    policy = RetryPolicy(float("inf"), clock=lambda: 0.0, jitter=lambda: 0.5)
    waits = [policy.wait_seconds(UNAVAILABLE) for _ in range(1100)]

    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0] == waits[:7]
    assert {30.0} == set(waits[6:])
