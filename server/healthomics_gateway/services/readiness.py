"""The readiness of the gateway, and of each part that calls depend on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.telemetry.log_lines import escaped

UNREADY_SECONDS = 30.0  # after AWS has refused the identity, or wasn't reached
LISTENERS = "listeners"
AWS = "aws"
UPSTREAM = "upstream"
# Parts that are ready again after UNREADY_SECONDS, so that a call can decide anew.
EXPIRING = frozenset({AWS, UPSTREAM})

_log = structlog.get_logger("readiness")


@dataclass(frozen=True, slots=True)
class PartState:
    """The state of a part."""

    name: str
    reason: str  # why the part keeps the gateway unready; empty if it doesn't
    fault: str  # what is wrong with it, as text; empty if nothing is

    @property
    def text(self) -> str:
        """The reason and the fault, or `ok`."""
        return ": ".join(filter(None, (self.reason, self.fault))) or "ok"


@dataclass(slots=True)
class _Part:
    why: Reason | None  # why the part keeps the gateway unready
    fault: Callable[[], str]  # what is wrong with the part, as text
    reports: int = 0  # about the part


class Readiness:
    """The state of each part that calls depend on.

    A part may be unready, for a reason. Or it may have a fault that doesn't affect
    calls yet, such as a certificate that can't be reloaded.

    The part `aws` is the gateway's own identity. If AWS refuses it, the part is unready
    for 30 s. Then it is ready again, until AWS refuses another call. The part
    `upstream` is likewise unready for 30 s after `Reachability` has reported it.
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
        self._listeners_fault = ""
        self.is_draining = False  # the gateway is about to end
        self._has_been_ready = False
        self.add(LISTENERS, fault=lambda: self._listeners_fault)
        self.add(AWS, why=Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)
        self.add(UPSTREAM)

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
        return [f"{part.name}: {part.text}" for part in self.parts]

    @property
    def live_lines(self) -> list[str]:
        """One line for each part of liveness: only the listeners."""
        return [f"{LISTENERS}: {escaped(self._listeners_fault) or 'ok'}"]

    @property
    def parts(self) -> list[PartState]:
        """The state of each part."""
        return [self._state(name) for name in self._parts]

    @property
    def change(self) -> asyncio.Event:
        """The event that the next change sets; each change has its own."""
        return self._changed

    def report(self, why: Reason | None, name: str = AWS) -> None:
        """Set a part to ready, or to unready because of `why`."""
        if name in EXPIRING:
            part = self._parts[name]
            part.reports += 1
            if why and why is not Reason.GATEWAY_CREDENTIALS_UNAVAILABLE:
                number = part.reports
                self._call_later(UNREADY_SECONDS, lambda: self._expire(name, number))
        self._set(name, why)

    def drain(self) -> None:
        """Set the gateway to unready for good."""
        self.is_draining = True
        self._set(LISTENERS, Reason.GATEWAY_DRAINING)

    def die(self, fault: str) -> None:
        """Set it to unready for good, as `fault` prevents new calls from arriving."""
        self._listeners_fault = fault
        self.drain()

    def _state(self, name: str) -> PartState:
        part = self._parts[name]
        why = part.why.name if part.why else ""
        fault = part.fault() or self._fault_of_task(name)
        return PartState(name, why, escaped(fault))  # may quote a file or an issuer

    def _expire(self, name: str, number: int) -> None:
        if number == self._parts[name].reports:
            self._set(name, None)

    def _set(self, name: str, why: Reason | None) -> None:
        part = self._parts[name]
        if why is not part.why:
            before = self.why_not
            part.why = why
            self._log_change(before, self.why_not)
            # Each change has its own event: set this one, and make that of the next.
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def _log_change(self, before: str, after: str) -> None:
        """Log that the gateway is now ready, or unready, or for another reason.

        At the start it is unready for one reason after another, which isn't logged.
        """
        if not after and before:
            self._has_been_ready = True
            _log.info("ready", was=before)
        elif after != before and self._has_been_ready:
            (_log.info if self.is_draining else _log.warning)("unready", reason=after)
