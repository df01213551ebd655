"""The parts of a gateway on which its readiness depends."""

from __future__ import annotations

from collections.abc import Callable

from healthomics_gateway.app.parts import Parts
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.services.readiness import AWS, UPSTREAM


def add_to_readiness(
    parts: Parts, *, fault_of_log: Callable[[], str] | None, reloads: bool
) -> None:
    """Add the parts that the settings enable to `parts.readiness`.

    `reloads` says whether the gateway follows its configuration file.
    """
    add = parts.readiness.add
    if fault_of_log:
        add("log", fault=fault_of_log)
    unknown = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE  # until they are read
    add(AWS, fault=parts.upstream.provider.fault, why=unknown)
    add(UPSTREAM, fault=parts.reachability.fault)
    if parts.sharing:
        add("shared", fault=parts.sharing.fault)
    if parts.keyring:
        unread = Reason.AUTH_BACKEND_UNAVAILABLE  # until they are read
        add("keys", fault=parts.keyring.fault, why=unread)
    if parts.listeners.has_certificates:
        add("certificate", fault=parts.listeners.certificate_fault)
    if reloads:
        add("configuration", fault=lambda: parts.reloads.fault)
