"""The readiness of the gateway, and of each part that calls depend on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.telemetry.log_lines import escaped

UNREADY_SECONDS = 30.0  # after AWS has refused the gateway's own identity
LISTENERS = "listeners"
AWS = "aws"


@dataclass(slots=True)
class _Part:
    why: Reason | None  # why the part keeps the gateway unready
    fault: Callable[[], str]  # what is wrong with the part, as text


class Readiness:
    """The state of each part that calls depend on.

    A part may be unready, for a reason. Or it may have a fault that doesn't affect
    calls yet, such as a certificate that can't be reloaded.

    The part `aws` is the gateway's own identity. If AWS refuses it, the part is unready
    for 30 s. Then it is ready again, until AWS refuses another call.
    """

    def __init__(
        self,
        *,
        call_later: Callable[[float, Callable[[], None]], object],
        fault_of_task: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Begin unready, without credentials; `call_later` is the event loop's.

        `fault_of_task` returns what is wrong with the background task of a part.
        """
        self._call_later = call_later
        self._fault_of_task = fault_of_task
        self._parts: dict[str, _Part] = {}
        self._changed = asyncio.Event()
        self._reports = 0  # about `aws`
        self._listeners_fault = ""
        self.is_draining = False  # the gateway is about to end
        self.add(LISTENERS, fault=lambda: self._listeners_fault)
        self.add(AWS, why=Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)

    def add(
        self,
        name: str,
        *,
        fault: Callable[[], str] = lambda: "",
        why: Reason | None = None,
    ) -> None:
        """Add a part, unready for `why`; `fault` returns its fault as text."""
        self._parts[name] = _Part(why, fault)

    @property
    def why_not(self) -> str:
        """The reason for which the gateway isn't ready; empty if it is."""
        return next((part.why.name for part in self._parts.values() if part.why), "")

    @property
    def is_dead(self) -> bool:
        """True if no new call can reach the gateway."""
        return bool(self._listeners_fault)

    @property
    def lines(self) -> list[str]:
        """One line for each part: its name, and `ok` or what is wrong with it."""
        return [f"{name}: {self._text(name) or 'ok'}" for name in self._parts]

    @property
    def change(self) -> asyncio.Event:
        """The event that the next change sets; each change has its own."""
        return self._changed

    def report(self, why: Reason | None, name: str = AWS) -> None:
        """Set a part to ready, or to unready because of `why`."""
        if name == AWS:
            self._reports += 1
            if why and why is not Reason.GATEWAY_CREDENTIALS_UNAVAILABLE:
                number = self._reports
                self._call_later(UNREADY_SECONDS, lambda: self._expire(number))
        self._set(name, why)

    def drain(self) -> None:
        """Set the gateway to unready for good."""
        self.is_draining = True
        self._set(LISTENERS, Reason.GATEWAY_DRAINING)

    def die(self, fault: str) -> None:
        """Set it to unready for good, as `fault` prevents new calls from arriving."""
        self._listeners_fault = fault
        self.drain()

    def _text(self, name: str) -> str:
        part = self._parts[name]
        why = part.why.name if part.why else ""
        fault = part.fault() or self._fault_of_task(name)
        fault = escaped(fault)  # may quote a file or an issuer
        return ": ".join(filter(None, (why, fault)))

    def _expire(self, number: int) -> None:
        if number == self._reports:
            self._set(AWS, None)

    def _set(self, name: str, why: Reason | None) -> None:
        part = self._parts[name]
        if why is not part.why:
            part.why = why
            # Each change has its own event: set this one, and make that of the next.
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
