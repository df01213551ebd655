"""The context of a call: its caller, its facts, and the error that it receives."""

from __future__ import annotations

import pytest

from healthomics_gateway.auth.policy import ALL_METHODS, UNRULED, Access, Rule
from healthomics_gateway.context import caller_at
from healthomics_gateway.errors.exceptions import (
    AwsAnswer,
    GatewayError,
    NotAskedError,
)
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import UpstreamInfo
from testkit.serving import call_context

RESTRICTED = Access("lims", Rule("lims", ALL_METHODS, run_groups=frozenset({"1"})))
NOT_FOUND = GatewayError(
    Reason.RUN_NOT_FOUND, answer=AwsAnswer("aws-1", 404, "ResourceNotFoundException")
)
OWN = ("x-request-id", "r-1")


@pytest.mark.guarantee("charged-identity")
@pytest.mark.parametrize(
    ("peer", "name"),
    [
        pytest.param("ipv4:10.1.2.3:50", "10.1.2.3", id="ipv4"),
        pytest.param("ipv4:127.0.0.1:50", "loopback", id="loopback"),
        pytest.param("ipv4:127.1.0.12:50", "loopback", id="other-loopback"),
        pytest.param("ipv6:%5B::1%5D:50", "loopback", id="ipv6-loopback"),
        pytest.param("ipv6:%5B::ffff:127.1.2.3%5D:50", "loopback", id="mapped-own"),
        pytest.param("ipv6:%5B::ffff:10.1.2.3%5D:50", "10.1.2.3", id="mapped"),
        pytest.param("ipv6:%5B2001:db8:0:7::1%5D:50", "2001:db8:0:7::/64", id="ipv6"),
        pytest.param("ipv6:%5B2001:db8:0:7:a::2%5D:5", "2001:db8:0:7::/64", id="same"),
        pytest.param("ipv6:%5B2001:db8:0:8::1%5D:5", "2001:db8:0:8::/64", id="next-64"),
        pytest.param("ipv6:%5Bfe80::1%25eth0%5D:5", "fe80::/64", id="zone"),
        pytest.param("ipv6:%5Bodd%5D:5", "%5Bodd%5D", id="no-address"),
        pytest.param("unix:", "loopback", id="unix"),
        pytest.param("unix:/run/client.sock", "loopback", id="unix-path"),
    ],
)
def test_caller_without_identity_is_named_by_its_host(peer: str, name: str) -> None:
    """Loopback and Unix sockets are one caller, and each /64 of IPv6 is one."""
    assert (f"\0{name}", peer) == caller_at(peer)


async def test_facts_of_an_answered_call_are_its_attempts_and_aws_s_answer() -> None:
    """They are the run's id, the Region, the attempts and AWS's answer.

    An unrestricted caller receives all of them.
    """
    call = call_context()
    call.run_id = "1234567"
    call.upstream = UpstreamInfo("us-east-1", 2, AwsAnswer("aws-1", 200))

    assert {
        "runId": "1234567",
        "region": "us-east-1",
        "attempts": "2",
        "awsErrorCode": "",
        "httpStatus": "200",
        "awsRequestId": "aws-1",
    } == call.facts
    assert call.facts == call.metadata
    assert (OWN, ("x-amzn-requestid", "aws-1")) == call.trailing_ids()


async def test_facts_of_a_cached_answer_are_only_aws_s_request_id() -> None:
    """A cached answer has the id of the request that read it, and no attempts."""
    call = call_context()
    call.upstream = UpstreamInfo(answer=AwsAnswer("aws-1"))

    assert {"awsRequestId": "aws-1"} == call.facts


async def test_refusal_before_healthomics_is_asked_is_local() -> None:
    """`local` marks a throttle by the gateway, not by HealthOmics."""
    call = call_context()
    call.error = NotAskedError(Reason.UPSTREAM_THROTTLED)
    local = call.facts
    call.error = GatewayError(Reason.UPSTREAM_THROTTLED)

    assert [{"local": "true"}, {}] == [local, call.facts]


async def test_restricted_caller_does_not_receive_errors_that_reveal_a_run() -> None:
    """It receives CALLER_NOT_AUTHORIZED without AWS's id; the log has the reason."""
    call = call_context(access=RESTRICTED)
    call.error = call.received(NOT_FOUND)

    assert Reason.CALLER_NOT_AUTHORIZED is call.error.reason
    assert NOT_FOUND is call.hidden
    assert ({}, (OWN,)) == (call.metadata, call.trailing_ids())
    assert "404" == call.facts["httpStatus"]


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
async def test_restricted_caller_receives_nothing_of_aws_with_any_error(
    reason: Reason,
) -> None:
    """It receives the run's id only, whatever HealthOmics has answered before."""
    shown, errors = set(), (NOT_FOUND, GatewayError(Reason.CALLER_NOT_AUTHORIZED))
    for attempts, hidden in enumerate(errors, start=1):
        call = call_context(access=RESTRICTED)
        call.run_id = "1234567"
        call.upstream = UpstreamInfo("us-east-1", attempts, AwsAnswer("aws-2", 200))
        call.received(hidden)
        call.error = GatewayError(reason, answer=AwsAnswer("aws-3", 500, "Other"))
        shown.add((tuple(call.metadata.items()), call.trailing_ids()))

    assert {((("runId", "1234567"),), (OWN,))} == shown


async def test_hidden_error_keeps_no_frame_of_its_call() -> None:
    """A frame of the call refers to the call's context: a reference cycle."""

    def fail() -> None:
        try:
            [].pop()
        except IndexError:
            raise NOT_FOUND.replace() from None

    call = call_context(access=RESTRICTED)
    with pytest.raises(GatewayError) as caught:
        fail()
    error = caught.value
    assert error.__traceback__ is not None
    assert error.__context__ is not None

    call.received(error)

    assert error is call.hidden
    assert (None, None) == (error.__traceback__, error.__context__)


async def test_restricted_caller_receives_aws_s_id_of_a_visible_run() -> None:
    """An answered call has AWS's request id, as the caller may see the run."""
    call = call_context(access=RESTRICTED)
    call.upstream = UpstreamInfo("us-east-1", 1, AwsAnswer("aws-1", 200))

    assert (OWN, ("x-amzn-requestid", "aws-1")) == call.trailing_ids()


@pytest.mark.parametrize(
    ("access", "error"),
    [
        pytest.param(UNRULED, NOT_FOUND, id="unrestricted"),
        pytest.param(
            RESTRICTED, GatewayError(Reason.UPSTREAM_TIMEOUT), id="says-nothing-of-it"
        ),
    ],
)
async def test_other_errors_are_received_as_they_are(
    access: Access, error: GatewayError
) -> None:
    """Errors that reveal no run, and those of other callers, aren't replaced."""
    call = call_context(access=access)

    assert (error, None) == (call.received(error), call.hidden)
