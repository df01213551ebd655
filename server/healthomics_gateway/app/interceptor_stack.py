"""The interceptors of each method, and the limits that all listeners share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from healthomics_gateway.auth.policy import (
    ALLOW_ALL,
    ANONYMOUS,
    DENY_ALL,
    Policy,
    Rule,
)
from healthomics_gateway.context import Interceptor
from healthomics_gateway.interceptors.authenticate import (
    ByCertificate,
    ByToken,
    authenticate,
)
from healthomics_gateway.interceptors.authorize import Authorization
from healthomics_gateway.interceptors.caller_limits import CallerLimits
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.interceptors.credential_expiry import CredentialExpiry
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.first_message import FirstMessages
from healthomics_gateway.interceptors.metrics import Measure
from healthomics_gateway.interceptors.send_buffer import SendBuffer
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.interceptors.tarpit import Tarpit
from healthomics_gateway.services.names import RUN_SERVICE, STANDARD
from healthomics_gateway.telemetry.metrics.parts import RuleCalls

# Calls of the standard services under way, in all and on one connection. A client
# library keeps one health stream for each of its connections.
MAX_STANDARD = 1024
MAX_STANDARD_PER_CONNECTION = 32
WATCH_RUN = f"/{RUN_SERVICE}/WatchRun"
# Returns the interceptors that authenticate and authorize the callers of a method.
Guard: TypeAlias = Callable[[str], Sequence[Interceptor]]


def _standard_admission() -> Admission:
    return Admission(
        max_in_flight=MAX_STANDARD, max_per_connection=MAX_STANDARD_PER_CONNECTION
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The limits on calls that all listeners share."""

    admission: Admission  # of GetRun
    watching: Admission
    drain: Drain = field(default_factory=Drain)
    first_messages: FirstMessages = field(default_factory=FirstMessages)  # RunService's
    other_first_messages: FirstMessages = field(default_factory=FirstMessages)
    standard: Admission = field(default_factory=_standard_admission)
    tarpit: Tarpit = field(default_factory=Tarpit)
    message_pace: Tarpit = field(default_factory=Tarpit)  # on streams of clients
    send_buffer: SendBuffer  # of calls and streams alike
    writer: Writer

    @property
    def in_flight(self) -> int:
        """Return the number of calls under way, including watches."""
        return self.admission.inside + self.watching.inside


class Guards:
    """Creates the interceptors that authenticate, authorize and limit callers.

    All listeners share the rules and the limits of each caller.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        limits: CallerLimits,
        rule_calls: RuleCalls,
        by_token: ByToken | None,
        expiry: CredentialExpiry,
        asks_for_certificates: bool,
    ) -> None:
        """Create them from the rules; `by_token` is None if tokens aren't verified.

        If tokens are verified or a listener requires certificates, a caller without
        identity needs a rule on every listener. `rule_calls` counts calls by rule.
        """
        self._policy = Policy()
        self._rule_calls = rule_calls
        self._authorization = Authorization(self._policy)
        self._limits = limits
        self._by_token = by_token
        self._expiry = expiry
        self._proves_identities = bool(by_token or asks_for_certificates)
        self._is_on = bool(rules or self._proves_identities)
        self._replace(rules)

    async def replace_rules(self, rules: Sequence[Rule]) -> None:
        """Use these rules for new calls at once, then check long calls again.

        If there were no rules before, identities must have been proven all the same:
        without that, `at` has returned empty guards.
        """
        self._replace(rules)
        await self._authorization.check()

    def _replace(self, rules: Sequence[Rule]) -> None:
        self._policy.replace(rules)
        other = DENY_ALL if rules else ALLOW_ALL
        labels = tuple(each.label for each in rules)
        self._rule_calls.set_rules(labels, other=other.label)
        self._allows_anonymous = (
            self._policy.knows(ANONYMOUS) if rules else not self._proves_identities
        )

    @property
    def policy(self) -> Policy:
        """The policy with the rules in effect."""
        return self._policy

    def at(self, by_connection: ByCertificate | None) -> Guard:
        """Return the guard of one listener; it is empty if every caller is allowed."""
        if not (self._is_on or by_connection):
            return lambda _: ()
        authentication = authenticate(
            by_certificate=by_connection,
            by_token=self._by_token,
            allows_anonymous=lambda: self._allows_anonymous,
        )

        def interceptors(method: str) -> Sequence[Interceptor]:
            limits = self._limits
            limit = limits.watches if method == "WatchRun" else limits.calls
            authorization = self._authorization
            if method == "GetRun":  # it ends by its deadline, so it is checked once
                return authentication, authorization.once(method), limit
            lasting = self._expiry.intercept, authorization.lasting(method)
            return authentication, *lasting, limit

        return interceptors


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """What reports calls and refuses none; it is outside of all that can refuse."""

    measure: Measure  # outermost, so that it counts what each interceptor refuses
    of_known: Sequence[Interceptor]  # of the methods that need an identity
    of_open: Sequence[Interceptor]  # of the services that need none
    of_unknown: Sequence[Interceptor]  # of methods that don't exist


def make_chain(
    *,
    observers: Observers,
    guard: Guard,
    bounds: Bounds,
    open_services: frozenset[str],
    listener: str,
) -> Chain:
    """Compose the interceptors of each method at one listener, outermost first.

    "Overload order" in docs/internals/design.md has the reasons. `open_services` are
    the standard services that need no identity, so no `guard`.
    """
    known = observers.of_known
    # Not the places of RunService, because these callers may have no identity.
    standard = bounds.standard.intercept
    tarpit = bounds.tarpit.intercept
    get_run: Sequence[Interceptor] = (
        *known,
        tarpit,  # before the places: a delayed rejection must not occupy one
        *guard("GetRun"),  # before the places, which are shared by identity
        bounds.admission.intercept,
        bounds.send_buffer.intercept,
        bounds.drain.intercept,  # after the places: a refused call needs no drain
    )
    watch_run: Sequence[Interceptor] = (
        *known,
        tarpit,
        *guard("WatchRun"),
        bounds.watching.intercept,
        bounds.drain.lasting,
    )
    guarded: Mapping[str, Sequence[Interceptor]] = {
        service: (*known, tarpit, *guard(name), standard)
        for service, name in STANDARD.items()
        if name not in open_services
    }
    return Chain(
        {RUN_SERVICE: get_run, WATCH_RUN: watch_run, **guarded},
        of_others=(*observers.of_open, standard),
        of_unknown=(*observers.of_unknown, tarpit),
        first_messages={RUN_SERVICE: bounds.first_messages},
        first_messages_of_others=bounds.other_first_messages,
        writer=bounds.writer,
        pace=bounds.message_pace.turn,
        measure=observers.measure,
        listener=listener,
    )
