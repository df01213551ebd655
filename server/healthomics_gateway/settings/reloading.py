"""Which settings a reload changes, and which changes need a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from healthomics_gateway.settings.checks import caller_faults
from healthomics_gateway.settings.listener_settings import (
    asks_for_certificates,
    listeners_of,
)
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import leaves

_Model = TypeVar("_Model", bound=BaseModel)

RELOADED = ("callers", "withhold", "log.level")  # in the order of the schema


def reloaded(running: Settings, read: Settings) -> Settings:
    """Return `running` with the settings of `read` that a reload changes."""
    for name in RELOADED:
        running = _with_setting(running, read, name)
    return running


def _with_setting(into: _Model, source: BaseModel, name: str) -> _Model:
    """Return `into` with the value that a setting has in `source`."""
    first, _, rest = name.partition(".")
    value = getattr(source, first)
    if rest:
        value = _with_setting(getattr(into, first), value, rest)
    return into.model_copy(update={first: value})


def changed(before: Settings, after: Settings) -> list[str]:
    """Return the names of the settings that differ."""
    old, new = _values(before), _values(after)
    return [name for name in new if new[name] != old[name]]


def _values(settings: Settings) -> dict[str, Any]:
    """Return the values by name.

    That of `open_services` isn't enough: its default depends on the address.
    """
    values = dict(leaves(settings))
    is_set = "open_services" in settings.model_fields_set
    values["open_services"] = settings.open_services, is_set
    return values


def unserved(start: Settings, after: Settings) -> Iterator[str]:
    """Yield the name of a setting that allows a service which isn't served yet.

    A listener serves Channelz only if a rule of the settings of the start names it.
    """
    served, wanted = (
        [each.services for each in listeners_of(settings)]
        for settings in (start, after)
    )
    missing = set[str]().union(*map(frozenset.difference, wanted, served))
    for at, rule in enumerate(after.callers):
        if rule.methods & missing:
            yield f"callers[{at}].methods"
            return


def reload_faults(running: Settings, read: Settings) -> Iterator[str]:
    """Yield why rules can't be reloaded while the other settings stay as they are."""
    if running.callers and not read.callers:
        yield (
            "callers: without any rule every call is allowed; to remove the last rule,"
            " restart"
        )
    proves_identities = running.jwt.is_on or asks_for_certificates(running)
    if read.callers and not (running.callers or proves_identities):
        yield (
            "callers: no caller is authenticated as long as there are no rules; to add"
            " the first rule, restart"
        )
    for _, fault in caller_faults(reloaded(running, read)):
        yield f"{fault}; a change of these needs a restart"
