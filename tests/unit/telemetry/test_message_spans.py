"""The spans of a stream's messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from healthomics_gateway.telemetry.message_spans import MAX_HEARTBEATS, MessageSpans


@dataclass
class Recorded:
    """A span that keeps what it is asked to record."""

    name: str = "call"
    origin: str = "it"
    received_at: int | None = None
    children: list[Recorded] = field(default_factory=list)
    events: list[tuple[str, int | None]] = field(default_factory=list)
    links: list[Any] = field(default_factory=list)
    has_ended: bool = False

    def child(self, name: str, *_: Any, **__: Any) -> Recorded:
        """Begin a part."""
        self.children.append(Recorded(name))
        return self.children[-1]

    def link(self, origin: Any) -> None:
        """Keep a link."""
        self.links.append(origin)

    def set(self, _attributes: Any) -> None:
        """Keep nothing."""

    def event(self, name: str, *_: Any, at: int | None = None) -> None:
        """Keep an event."""
        self.events.append((name, at))

    def end(self, *_: Any, **__: Any) -> None:
        """End."""
        self.has_ended = True


def test_unary_call_has_one_span() -> None:
    """A call that sends no message of a stream ends with its own span."""
    call = Recorded()
    assert call is MessageSpans(call).last()


def test_stream_ends_in_a_span_of_its_own() -> None:
    """The call's span ends with the first message; nothing is recorded for others."""
    call = Recorded()
    messages = MessageSpans(call)
    for _ in range(2):
        messages.sent()
    assert call.has_ended
    assert "stream end" == messages.last().name


def test_unsent_change_is_the_last_span() -> None:
    """A change that can't be sent has the outcome of the call."""
    call = Recorded()
    messages = MessageSpans(call)
    messages.sent()
    messages.change("RUNNING", None)
    assert "watch change" == messages.last().name
    assert [] == messages.last().links


def test_heartbeats_are_bounded_events() -> None:
    """The next change has the times of the last heartbeats before it."""
    times = iter(range(1000))
    call = Recorded()
    messages = MessageSpans(call, now=lambda: next(times))
    for _ in range(MAX_HEARTBEATS + 2):
        messages.heartbeat()
        messages.sent()
    messages.change("RUNNING", "fetch")
    (change,) = call.children
    beats = [("heartbeat", at) for at in range(2, MAX_HEARTBEATS + 2)]
    assert [*beats, ("state", None)] == change.events
    assert ["fetch"] == change.links
