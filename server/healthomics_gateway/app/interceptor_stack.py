"""The interceptors that each method's calls pass, and the bounds that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from healthomics_gateway.auth.policy import ANONYMOUS, Policy, Rule
from healthomics_gateway.context import Interceptor
from healthomics_gateway.interceptors.authenticate import (
    ByCertificate,
    ByToken,
    authenticate,
)
from healthomics_gateway.interceptors.authorize import authorize
from healthomics_gateway.interceptors.caller_limits import CallerLimits
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.interceptors.credential_expiry import CredentialExpiry
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.first_message import FirstMessages
from healthomics_gateway.interceptors.send_buffer import SendBuffer
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.interceptors.tarpit import Tarpit
from healthomics_gateway.services.health import HEALTH, SERVICE
from healthomics_gateway.services.reflection import REFLECTION_V1, REFLECTION_V1ALPHA

# Of health and reflection, in all and of one connection: a client library keeps one
# health stream for each of its connections.
MAX_STANDARD = 1024
MAX_STANDARD_PER_CONNECTION = 32
WATCH_RUN = f"/{SERVICE}/WatchRun"
STANDARD = {  # services, as the rules call them
    HEALTH: "Health",
    REFLECTION_V1: "Reflection",
    REFLECTION_V1ALPHA: "Reflection",
}
# Gives the stages that find out who calls a method, by the rules' name of it, and
# whether that caller may.
Guard: TypeAlias = Callable[[str], Sequence[Interceptor]]


def _standard_admission() -> Admission:
    return Admission(
        max_in_flight=MAX_STANDARD, max_per_connection=MAX_STANDARD_PER_CONNECTION
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What bounds the calls of all listeners together."""

    admission: Admission
    watching: Admission
    drain: Drain
    arrivals: FirstMessages  # of RunService
    arrivals_of_others: FirstMessages = field(default_factory=FirstMessages)
    standard: Admission = field(default_factory=_standard_admission)
    refusals: Tarpit = field(default_factory=Tarpit)
    messages: Tarpit = field(default_factory=Tarpit)  # of clients' streams
    unread: SendBuffer  # of calls and streams alike
    writer: Writer


class Guards:
    """Makes the stages that turn away callers who may not call, for each listener.

    The rules, and what each caller may have for itself, are the same on all of them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        by_token: ByToken | None,
        expiry: CredentialExpiry,
        asks_for_certificates: bool,
    ) -> None:
        """Take what finds the identity in a token, None if tokens aren't read.

        Once tokens are read or some listener asks for certificates, a caller without
        identity needs a rule on every listener.
        """
        self._policy = Policy(rules)
        self._limits = CallerLimits()
        self._by_token = by_token
        self._expiry = expiry
        self._is_on = bool(rules or by_token or asks_for_certificates)
        self._lets_in_anonymous = (
            self._policy.knows(ANONYMOUS)
            if rules
            else not (by_token or asks_for_certificates)
        )

    def at(self, by_connection: ByCertificate | None) -> Guard:
        """Return the stages of each method at one listener; none if all may call."""
        if not (self._is_on or by_connection):
            return lambda _: ()
        who = authenticate(
            by_certificate=by_connection,
            by_token=self._by_token,
            lets_in_anonymous=self._lets_in_anonymous,
        )

        def stages(method: str) -> Sequence[Interceptor]:
            limits = self._limits
            limit = limits.watches if method == "WatchRun" else limits.calls
            allow = authorize(self._policy, method)
            if method == "GetRun":  # the one that ends by a deadline
                return who, allow, limit
            return who, self._expiry.intercept, allow, limit

        return stages


def make_chain(
    *,
    audit: Interceptor,
    status: Interceptor,
    guard: Guard,
    bounds: Bounds,
    open_services: frozenset[str],
    listener: str,
) -> Chain:
    """Compose the interceptors of each method at one listener, outermost first.

    docs/internals/design.md, "Overload order", has the reasons. `guard` is for what
    needs an identity; `open_services` are the standard services that need none.
    """
    # Apart from RunService's places: their callers may have no identity.
    standard = bounds.standard.intercept
    tarpit = bounds.refusals.intercept
    get_run: Sequence[Interceptor] = (
        audit,  # outermost, so that every refusal is logged
        status,  # around all that can fail, so that each failure has its details
        tarpit,  # outside all places: a rejection that waits must hold none
        *guard("GetRun"),  # before the places, which are shared by identity
        bounds.admission.intercept,
        bounds.unread.intercept,
        bounds.drain.intercept,  # inside the places: a refused call needs no drain
    )
    watch_run: Sequence[Interceptor] = (
        audit,
        status,
        tarpit,
        *guard("WatchRun"),
        bounds.watching.intercept,
        bounds.drain.lasting,
    )
    guarded: Mapping[str, Sequence[Interceptor]] = {
        service: (audit, status, tarpit, *guard(name), standard)
        for service, name in STANDARD.items()
        if name not in open_services
    }
    return Chain(
        {SERVICE: get_run, WATCH_RUN: watch_run, **guarded},
        of_others=(status, standard),  # what is open is health and reflection
        of_unknown=(audit, status, tarpit),
        arrivals={SERVICE: bounds.arrivals},
        arrivals_of_others=bounds.arrivals_of_others,
        writer=bounds.writer,
        pace=bounds.messages.turn,
        listener=listener,
    )
