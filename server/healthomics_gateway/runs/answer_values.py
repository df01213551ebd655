"""Answers as values of the shared store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from healthomics.v1.run_pb2 import Run, RunExport
from healthomics_gateway.runs.source import Answer
from healthomics_gateway.telemetry.metrics.parts import NOTHING

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import RunQuery
    from healthomics_gateway.shared.names import Names
    from healthomics_gateway.shared.seal import Sealer
    from healthomics_gateway.telemetry.metrics.parts import Count

# Of a sealed value. A larger one would delay the commands that follow it on the same
# connection: at 100 Mbit/s it takes 21 ms of the 50 that a command has.
MAX_VALUE_BYTES = 262_144
_LENGTH_BYTES = 2  # of a text's length


class Dated(NamedTuple):
    """An answer and its age."""

    answer: Answer
    age_seconds: float  # since it was read from HealthOmics


class AnswerValues:
    """Encodes answers as sealed values, and decodes those of other replicas."""

    def __init__(
        self, names: Names, sealer: Sealer, *, rejected: Count = NOTHING
    ) -> None:
        """Use the names of `names`; `rejected` counts the values that aren't valid."""
        self._names = names
        self._sealer = sealer
        self._rejected = rejected

    def name(self, query: RunQuery) -> str | None:
        """Return the name of a run's entry, in the query's partition.

        It is None while the gateway's own identity isn't known.
        """
        role, caller = query.partition
        return self._names.run(query.id, role=role, caller=caller)

    @staticmethod
    def field(query: RunQuery) -> str:
        """Return the field of the entry that has the answer to a query."""
        return ",".join(sorted(map(RunExport.Name, query.export)))

    def encode(self, query: RunQuery, answer: Answer) -> bytes | None:
        """Return the sealed value of an answer that has just been read.

        Return None if the entry has no name, or the value would be too large.
        """
        name = self.name(query)
        if name is None:
            return None
        field = self.field(query)
        payload = _framed(answer.request_id) + answer.run.SerializeToString()
        value = _framed(field) + self._sealer.seal(name, field, payload)
        return value if len(value) <= MAX_VALUE_BYTES else None

    def decode(
        self, query: RunQuery, value: bytes, *, stored_seconds: float = 0.0
    ) -> Dated | None:
        """Return the answer to a query, or None if the value isn't one.

        It was in the store for `stored_seconds`. The age is the longer of that and the
        time since the value was sealed: neither clock alone is trusted. A value that
        isn't valid is counted. That of another field of the entry isn't an answer, but
        valid: subscribers receive the values of all fields.
        """
        try:
            return self._decode(query, value, stored_seconds)
        except (ValueError, DecodeError):
            self._rejected.inc()
            return None

    def _decode(
        self, query: RunQuery, value: bytes, stored_seconds: float
    ) -> Dated | None:
        """Raises ValueError or DecodeError if the value isn't valid."""
        name = self.name(query)
        if name is None or len(value) > MAX_VALUE_BYTES:
            raise ValueError("no identity, or too large")
        field, sealed = _unframed(value)
        opened = self._sealer.open(name, field, sealed)
        if opened is None:
            raise ValueError("not sealed for this entry")
        if field != self.field(query):
            return None
        request_id, encoded = _unframed(opened.payload)
        run = Run.FromString(encoded)
        if run.id != query.id:
            raise ValueError("another run")
        # In this order, as a store could say NaN, which is never the larger one.
        age_seconds = max(opened.age_seconds, stored_seconds)
        return Dated(Answer(run, request_id), age_seconds)


def _framed(text: str) -> bytes:
    """Return a text after its length."""
    encoded = text.encode()
    return len(encoded).to_bytes(_LENGTH_BYTES) + encoded


def _unframed(data: bytes) -> tuple[str, bytes]:
    """Return the text at the beginning, and the rest; raises UnicodeDecodeError."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES])
    return data[_LENGTH_BYTES:end].decode(), data[end:]
