"""A `Store` in another process: the one that a supervisor has for its workers."""

from __future__ import annotations

from typing import Any, Protocol

from healthomics_gateway.control import ControlError, Message
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.store import (
    Claim,
    Deliver,
    Members,
    Permit,
    Rate,
    Reservation,
    Stored,
    StoreError,
)

ASK = "store"  # the name of a request; its data are a method and its arguments
DELIVER = "deliver"  # the name of a note with a published value
ANSWER_SECONDS = 1.0  # the callers wait less
METHODS = frozenset(
    {
        *("beat", "leave", "reserve", "cut", "take", "count", "read", "write"),
        *("remove", "claim", "release", "subscribe", "unsubscribe"),
    }
)


class Ask(Protocol):
    """Asks another process, as `Control.ask` does."""

    async def __call__(self, name: str, message: Message, *, seconds: float) -> Message:
        """Return the answer; raises ControlError."""
        ...


class RemoteStore:
    """A store that is asked by messages; the methods are those of `Store`."""

    unreached = ""

    def __init__(self, ask: Ask) -> None:
        """Use `ask`; `delivered` must get the notes of the name DELIVER."""
        self._ask = ask
        self._deliver: Deliver = lambda _name, _value: None

    def deliver_to(self, deliver: Deliver) -> None:
        """Call `deliver` for each value of the entries that are subscribed to."""
        self._deliver = deliver

    def delivered(self, message: Message) -> None:
        """Deliver a value that was published."""
        self._deliver(message.data, message.payload)

    async def close(self) -> None:
        """Do nothing: the connection is that of the process."""

    async def beat(self, replica: str, *, is_attached: bool, known: int) -> Members:
        """Note that a replica lives."""
        answer = await self._call(
            "beat", replica=replica, is_attached=is_attached, known=known
        )
        attached, expected, was_known = answer.data
        return Members(frozenset(attached), expected, was_known)

    async def leave(self, replica: str) -> None:
        """Forget a replica."""
        await self._call("leave", replica=replica)

    async def reserve(self, quota: str, rate: Rate, *, replica: str) -> Reservation:
        """Take the next token of a quota."""
        answer = await self._call("reserve", quota=quota, rate=[*rate], replica=replica)
        return Reservation(*answer.data)

    async def cut(self, quota: str, rate: Rate) -> None:
        """Lower the rate of a quota."""
        await self._call("cut", quota=quota, rate=[*rate])

    async def take(self, bucket: str, rate: Rate, *, wanted: int) -> Permit:
        """Take at most `wanted` tokens of a caller's bucket."""
        answer = await self._call("take", bucket=bucket, rate=[*rate], wanted=wanted)
        return Permit(*answer.data)

    async def count(
        self, name: str, number: int, *, replica: str, limit: int | None
    ) -> bool:
        """Set how many a replica has of something."""
        answer = await self._call(
            "count", name=name, number=number, replica=replica, limit=limit
        )
        return bool(answer.data)

    async def read(self, name: str, field: str) -> Stored | None:
        """Return the value of a field of an entry."""
        return _stored(await self._call("read", name=name, field=field))

    async def write(
        self,
        name: str,
        field: str,
        value: bytes,
        *,
        age_seconds: float,
        keep_seconds: float,
    ) -> None:
        """Set a field of an entry, and publish the value."""
        await self._call(
            "write",
            value,
            name=name,
            field=field,
            age_seconds=age_seconds,
            keep_seconds=keep_seconds,
        )

    async def remove(self, name: str) -> None:
        """Remove an entry with all fields."""
        await self._call("remove", name=name)

    async def claim(
        self, name: str, field: str, *, replica: str, period_seconds: float
    ) -> Claim:
        """Take the lease of an entry, or renew it."""
        answer = await self._call(
            "claim",
            name=name,
            field=field,
            replica=replica,
            period_seconds=period_seconds,
        )
        holder, age_seconds = answer.data
        return Claim(holder, _stored(Message(age_seconds, answer.payload)))

    async def release(self, name: str, *, replica: str) -> None:
        """Release a lease."""
        await self._call("release", name=name, replica=replica)

    async def subscribe(self, name: str) -> None:
        """Deliver the values of an entry from now on."""
        await self._call("subscribe", name=name)

    async def unsubscribe(self, name: str) -> None:
        """Deliver no more values of an entry."""
        await self._call("unsubscribe", name=name)

    async def _call(
        self, method: str, payload: bytes = b"", **arguments: Any
    ) -> Message:
        """Return the answer to a request; raises StoreError."""
        message = Message([method, arguments], payload)
        try:
            return await self._ask(ASK, message, seconds=ANSWER_SECONDS)
        except ControlError as error:
            raise StoreError(str(error)) from None


class StoreService:
    """Answers the requests of one process with a `MemoryStore` that others use too."""

    def __init__(self, memory: MemoryStore) -> None:
        """Use `memory`."""
        self._memory = memory
        self._replicas: set[str] = set()  # of the process
        self._names: set[str] = set()  # of the entries that it subscribes to
        self._deliver: Deliver = lambda _name, _value: None

    def deliver_to(self, deliver: Deliver) -> None:
        """Call `deliver` for each value that the process subscribes to from now on."""
        self._deliver = deliver

    async def answer(self, message: Message) -> Message:
        """Return the answer to a request; raises ControlError."""
        method, arguments = message.data
        if method not in METHODS:
            raise ControlError(f"{method}: the store has no such method")
        if method == "write":
            arguments["value"] = message.payload
        if "rate" in arguments:
            arguments["rate"] = Rate(*arguments["rate"])
        if "replica" in arguments:
            self._replicas.add(arguments["replica"])
        if method in {"subscribe", "unsubscribe"}:
            note = self._names.add if method == "subscribe" else self._names.discard
            note(arguments["name"])
            arguments["deliver"] = self._deliver
        try:
            return _answer(getattr(self._memory, method)(**arguments))
        except StoreError as error:
            raise ControlError(str(error)) from None

    def close(self) -> None:
        """Forget the replicas and the subscriptions of the process: it has ended."""
        for replica in self._replicas:
            self._memory.leave(replica)
        for name in self._names:
            self._memory.unsubscribe(name, self._deliver)


def _answer(result: Any) -> Message:
    """Return the answer with what a method has returned."""
    if isinstance(result, Stored):
        return Message(result.age_seconds, result.value)
    if isinstance(result, Claim):
        last = result.last
        age, value = (last.age_seconds, last.value) if last else (None, b"")
        return Message([result.holder, age], value)
    if isinstance(result, Members):
        return Message([sorted(result.attached), result.expected, result.was_known])
    return Message([*result] if isinstance(result, tuple) else result)


def _stored(message: Message) -> Stored | None:
    """Return the value and its age, unless there is none."""
    return None if message.data is None else Stored(message.payload, message.data)
