"""What calls depend on, part by part, and whether the gateway is ready for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from healthomics_gateway.errors import Reason
from healthomics_gateway.log_lines import escaped

DOUBT_SECONDS = 30.0  # how long a refused identity keeps the gateway unready

# Takes why a part is unready, or None once it works.
Report: TypeAlias = Callable[[Reason | None], None]


@dataclass(slots=True, kw_only=True)
class _Part:
    why: Reason | None  # why calls can't be answered without it
    fault: Callable[[], str]  # what is wrong with it, for people

    @property
    def text(self) -> str:
        fault = escaped(self.fault())  # may have words of a file or an issuer
        return ": ".join(filter(None, (self.why and self.why.name, fault)))


class Readiness:
    """Whether each part that calls depend on works, as far as is known.

    A part is unready for a reason, or has a fault that calls don't notice yet, such as
    a certificate that can't be replaced.

    The part `aws` is the gateway's own identity. AWS's refusal of it is doubted after
    30 s: then the next call decides.
    """

    def __init__(
        self, *, call_later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """Begin not ready, without credentials; `call_later` is the loop's."""
        self._call_later = call_later
        self._parts: dict[str, _Part] = {}
        self._changed = asyncio.Event()
        self._reports = 0  # about `aws`
        self.is_draining = False  # the gateway is about to end
        self._listeners_fault = ""
        self._report_listeners = self.add(
            "listeners", fault=lambda: self._listeners_fault
        )
        self._report_aws = self.add(
            "aws", why=Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, fault=lambda: ""
        )

    def add(
        self, name: str, *, fault: Callable[[], str], why: Reason | None = None
    ) -> Report:
        """Add a part, unready for `why`; return the function that reports on it.

        `fault` returns what is wrong with it, or "".
        """
        part = self._parts[name] = _Part(why=why, fault=fault)

        def report(why: Reason | None) -> None:
            if why is not part.why:
                part.why = why
                self._notify()

        return report

    @property
    def why_not(self) -> str:
        """Why the gateway isn't ready; empty if it is."""
        return next((part.why.name for part in self._parts.values() if part.why), "")

    @property
    def is_dead(self) -> bool:
        """Whether no new call can reach the gateway any more."""
        return bool(self._listeners_fault)

    @property
    def lines(self) -> list[str]:
        """One line for each part: its name and `ok`, or what is wrong with it."""
        return [f"{name}: {part.text or 'ok'}" for name, part in self._parts.items()]

    @property
    def change(self) -> asyncio.Event:
        """The event that the next change sets; each change has its own."""
        return self._changed

    def report(self, why: Reason | None) -> None:
        """Note that AWS accepts the gateway's own identity, or why it doesn't."""
        self._reports += 1
        if why and why is not Reason.GATEWAY_CREDENTIALS_UNAVAILABLE:
            number = self._reports
            self._call_later(DOUBT_SECONDS, lambda: self._doubt(number))
        self._report_aws(why)

    def drain(self) -> None:
        """Be unready for good."""
        self.is_draining = True
        self._report_listeners(Reason.GATEWAY_DRAINING)

    def die(self, fault: str) -> None:
        """Be unready for good, as `fault` keeps new calls from coming in."""
        self._listeners_fault = fault
        self.drain()

    def _doubt(self, number: int) -> None:
        if number == self._reports:
            self._report_aws(None)

    def _notify(self) -> None:
        """Wake everyone that waits for this change; the next has another event."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
