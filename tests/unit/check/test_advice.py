"""The advice for each reason for which AWS can't be used."""

from __future__ import annotations

import pytest

from healthomics_gateway.check.advice import ADVICE, UNKNOWN, advice_of, sts_advice
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.classify import CODES, FAILURES
from healthomics_gateway.upstream.provider import ChainError


def test_each_failure_of_aws_has_advice() -> None:
    """The table has every reason of an AWS code and of a failed request, and advice."""
    reasons = {each.reason for each in (*CODES.values(), *FAILURES.values())}

    assert set() == reasons - ADVICE.keys()
    assert [] == [each for each in ADVICE.values() if not each.strip()]
    assert UNKNOWN == advice_of(Reason.GATEWAY_INTERNAL)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("ReadTimeoutError", "STS can't be reached", id="unreached"),
        pytest.param("AwsSettingsError", "correct AWS_ENDPOINT_URL_STS", id="address"),
        pytest.param("ExpiredToken", "have expired; renew them", id="known-code"),
        pytest.param("RegionDisabled", "try `aws sts", id="unknown-code"),
    ],
)
def test_failure_of_sts_has_its_code_and_advice(name: str, words: str) -> None:
    """A code that HealthOmics has too has the same advice."""
    advice = sts_advice(ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, name))

    assert words in advice
    assert f"({name})" in advice
