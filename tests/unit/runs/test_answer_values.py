"""Answers as values of the shared store, and values that aren't valid answers."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from healthomics.v1.run_pb2 import Run, RunExport, RunStatus
from healthomics_gateway.runs.answer_values import MAX_VALUE_BYTES, AnswerValues
from healthomics_gateway.runs.source import Answer, Partition, RunQuery
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.seal import Sealer
from testkit.metrics import Seen

QUERY = RunQuery("1234567")
DEFINED = RunQuery("1234567", (RunExport.RUN_EXPORT_DEFINITION,))
AS_ALICE = RunQuery("1234567", partition=Partition("arn:role", "alice"))
AS_BOB = RunQuery("1234567", partition=Partition("arn:role", "bob"))
RUN = Run(id="1234567", name="genomes", status=RunStatus.RUN_STATUS_RUNNING)
ANSWER = Answer(RUN, "aws-id")


class Values:
    """The values of one gateway, whose clock the test sets."""

    def __init__(self, *, secret: bytes = b"secret", identity: str = "me") -> None:
        """Begin at a time, with a known identity unless it's empty."""
        self.now = 1e9
        self.sealer = Sealer(secret, wall_clock=lambda: self.now)
        names = Names(self.sealer, region="us-east-1", endpoint="")
        if identity:
            names.learn(account="123456789012", identity=identity)
        self.rejected = Seen()
        self.codec = AnswerValues(names, self.sealer, rejected=self.rejected)

    def encoded(self, query: RunQuery = QUERY, answer: Answer = ANSWER) -> bytes:
        """Return the value of an answer."""
        value = self.codec.encode(query, answer)
        assert value is not None
        return value

    def sealed(self, payload: bytes) -> bytes:
        """Return a valid value with any payload."""
        name = self.codec.name(QUERY)
        assert name is not None
        return b"\x00\x00" + self.sealer.seal(name, "", payload)


@pytest.mark.parametrize("query", [QUERY, DEFINED, AS_ALICE])
def test_answer_is_decoded_as_it_was_encoded(query: RunQuery) -> None:
    """A replica with the same secret and identity gets the same answer."""
    value = Values().encoded(query)

    assert (ANSWER, 0.0) == Values().codec.decode(query, value)


def test_age_is_the_longer_one_of_both_clocks() -> None:
    """Neither the store's clock nor the machine's can make an answer newer."""
    values = Values()
    value = values.encoded()
    values.now += 5.0
    ages = [
        dated.age_seconds
        for seconds in (0.0, 4.0, 6.0, -1.0, nan)
        if (dated := values.codec.decode(QUERY, value, stored_seconds=seconds))
    ]

    assert [5.0, 5.0, 6.0, 5.0, 5.0] == ages


@pytest.mark.guarantee("shared-partitions")
@pytest.mark.parametrize(
    ("query", "reader"),
    [
        pytest.param(RunQuery("7654321"), {}, id="another run"),
        pytest.param(AS_ALICE, {}, id="another partition"),
        pytest.param(QUERY, {"identity": "you"}, id="another identity"),
        pytest.param(QUERY, {"secret": b"guess"}, id="another secret"),
        pytest.param(QUERY, {"identity": ""}, id="unknown identity"),
    ],
)
def test_value_of_another_entry_is_rejected(
    query: RunQuery, reader: dict[str, Any]
) -> None:
    """A valid value that was copied elsewhere in the store is no answer there."""
    values = Values(**reader)

    assert values.codec.decode(query, Values().encoded()) is None
    assert [1] == values.rejected.values


@pytest.mark.guarantee("shared-partitions")
def test_value_of_another_callers_session_is_rejected() -> None:
    """What one caller's session of a role has read is no answer to another caller."""
    values = Values()

    assert values.codec.decode(AS_BOB, values.encoded(AS_ALICE)) is None
    assert values.codec.name(AS_ALICE) != values.codec.name(AS_BOB)


@pytest.mark.guarantee("shared-partitions")
def test_value_of_another_field_is_no_answer() -> None:
    """What was read without exports isn't the answer with them, nor is it invalid."""
    values = Values()
    value = values.encoded()
    field = RunExport.Name(DEFINED.export[0]).encode()
    relabelled = len(field).to_bytes(2) + field + value[2:]

    assert values.codec.decode(DEFINED, value) is None
    assert [] == values.rejected.values
    assert values.codec.decode(DEFINED, relabelled) is None
    assert [1] == values.rejected.values


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00\x01\xff" + RUN.SerializeToString(), id="not UTF-8"),
        pytest.param(b"\xff\xff" + RUN.SerializeToString(), id="no run"),
        pytest.param(b"\x00\x00\xff\xff\xff", id="no message"),
        pytest.param(b"\x00\x00" + Run(id="7654321").SerializeToString(), id="run"),
    ],
)
def test_payload_that_is_no_answer_is_rejected(payload: bytes) -> None:
    """A value is checked although only holders of the secret can have written it."""
    values = Values()

    assert values.codec.decode(QUERY, values.sealed(payload)) is None
    assert [1] == values.rejected.values


def test_changed_value_is_rejected() -> None:
    """Each byte of a value is authenticated."""
    values = Values()
    value = values.encoded()
    changed = [
        value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
        for at in range(len(value))
    ]
    forged = [*changed, value[:-1], value + b"\x00", b"", bytes(MAX_VALUE_BYTES + 1)]

    assert [None] * len(forged) == [values.codec.decode(QUERY, each) for each in forged]
    assert len(forged) == len(values.rejected.values)


def test_largest_value_is_bounded() -> None:
    """A larger answer isn't encoded, and a larger value isn't decoded."""
    values = Values()
    rest = MAX_VALUE_BYTES - len(values.encoded(answer=Answer(Run(id="1234567"), "")))
    largest = Answer(Run(id="1234567", name="n" * (rest - 4)), "")
    larger = Answer(Run(id="1234567", name="n" * (rest - 3)), "")
    too_large = values.sealed(b"\x00\x00" + larger.run.SerializeToString())

    assert (largest, 0.0) == values.codec.decode(QUERY, values.encoded(answer=largest))
    assert MAX_VALUE_BYTES == len(values.encoded(answer=largest))
    assert values.codec.encode(QUERY, larger) is None
    assert values.codec.decode(QUERY, too_large) is None


def test_answer_has_no_value_while_the_identity_is_unknown() -> None:
    """Nothing of the own identity is shared until it is known; roles have names."""
    values = Values(identity="")

    assert values.codec.encode(QUERY, ANSWER) is None
    assert values.codec.encode(AS_ALICE, ANSWER) is not None
