"""Copies of errors."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from healthomics_gateway.errors.exceptions import (
    Again,
    AwsAnswer,
    GatewayError,
    NotAskedError,
)
from healthomics_gateway.errors.reasons import Reason


@pytest.mark.parametrize("kind", [GatewayError, NotAskedError])
def test_replace_copies_an_error_with_a_note(kind: type[GatewayError]) -> None:
    """The copy has all arguments of the error, except those that are changed."""
    arguments: dict[str, Any] = {
        "again": Again.YES,
        "answer": AwsAnswer("aws-1"),
        "aws_retry_after_seconds": 2.0,
        "debug": "text",
    }
    error = kind(Reason.UPSTREAM_THROTTLED, **arguments)
    error.add_note("a note")
    copy = error.replace(retry_delay_seconds=1.5)

    assert kind is type(copy)
    assert (Reason.UPSTREAM_THROTTLED, 1.5) == (copy.reason, copy.retry_delay_seconds)
    assert arguments == {name: getattr(copy, name) for name in arguments}


def test_replace_copies_every_argument() -> None:
    """The attributes that `replace` copies are the arguments of `__init__`."""
    arguments = inspect.signature(GatewayError).parameters

    assert set(arguments) == set(GatewayError.__slots__)
