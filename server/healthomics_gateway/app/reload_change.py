"""What a reload would change, prepared in a thread before anything is set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from healthomics_gateway.auth.policy import Rule
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.effective import warnings
from healthomics_gateway.settings.reloading import (
    changed,
    reload_faults,
    reloaded,
    unserved,
)
from healthomics_gateway.settings.schema import Settings

MAX_WARNINGS = 50  # of a file that are logged


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The settings after a reload of a file, and what they change."""

    content: bytes  # of the file
    settings: Settings  # in effect after the reload
    rules: Sequence[Rule]
    roles: Sequence[str]
    changed: Sequence[str]  # names of the settings that the reload changes
    needs_restart: Sequence[str]  # names of those that have no effect until then
    warnings: Sequence[str]  # that the settings before didn't have


def prepare(
    content: bytes,
    load: Callable[[bytes], Settings],
    running: Settings,
    start: Settings,
) -> Change:
    """Return what this content of the file changes, while `running` are in effect.

    `start` has the settings of the start. Raises ConfigurationError with all faults. It
    blocks, for the longer the more rules there are.
    """
    read = load(content)
    if faults := tuple(reload_faults(running, read)):
        raise ConfigurationError(*faults)
    after = reloaded(running, read)
    known = set(islice(warnings(running), MAX_WARNINGS))
    found = islice(warnings(after), MAX_WARNINGS)
    return Change(
        content=content,
        settings=after,
        rules=rules_of(after),
        roles=roles_of(after),
        changed=changed(running, after),
        needs_restart=[*changed(after, read), *unserved(start, after)],
        warnings=[each for each in found if each not in known],
    )


def rules_of(settings: Settings) -> list[Rule]:
    """Return the rules on callers, each with its label: `1:spiffe://…`.

    Without `statusz.identities` the label is the position alone.
    """
    are_shown = settings.statusz.identities
    return [
        Rule(
            **each.model_dump(),
            label=f"{number}:{each.identity}" if are_shown else str(number),
        )
        for number, each in enumerate(settings.callers, start=1)
    ]


def roles_of(settings: Settings) -> list[str]:
    """Return the roles of the rules."""
    return [each.aws_role for each in settings.callers if each.aws_role]
