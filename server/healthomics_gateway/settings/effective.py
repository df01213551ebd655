"""The effective settings as the command line shows them, and warnings about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from healthomics_gateway.auth.policy import neighbour_of
from healthomics_gateway.durations import duration_text
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.net.urls import MASK, masked_url
from healthomics_gateway.runs.field_mask import MEMBERS
from healthomics_gateway.settings.file_checks import is_readable
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.load import Loaded
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import leaves
from healthomics_gateway.settings.value_types import usable_cores


def rows(
    loaded: Loaded, *, is_file: Callable[[Path], bool] = is_readable
) -> Iterator[tuple[str, str, str]]:
    """Yield each setting's name, its value as it would be written, and its origin.

    A path that isn't a file may be a key, pasted by mistake, and isn't shown. Nor are
    the secrets of a URL.
    """
    settings = loaded.settings
    opened = {"open_services": listeners_of(settings)[0].open_services}  # of `listen`
    for name, value in leaves(dict(settings) | opened):
        origin = loaded.origins.get(name, "default")
        if isinstance(value, tuple) and not isinstance(value, Address):
            for at, table in enumerate(value):
                given = _given(table)
                for inner, each in leaves(given):
                    text = _written(each, is_file)
                    # An identity may look like a URL, but authenticates nobody.
                    shown = text if inner == "identity" else masked_url(text)
                    yield f"{name}[{at}].{inner}", shown, origin
        else:
            yield name, _shown(name, _written(value, is_file)), origin


def _shown(name: str, text: str) -> str:
    """Return the text of a setting without its secrets."""
    if name.endswith("_url") and text and "://" not in text:
        return "(not a URL)"
    return masked_url(text)


def _given(table: BaseModel) -> dict[str, Any]:
    """Return the settings that a table contains, in the order of the schema."""
    return {key: value for key, value in table if key in table.model_fields_set}


def warnings(
    settings: Settings, *, cores: Callable[[], int] = usable_cores
) -> Iterator[str]:
    """Yield a warning for each value that is valid but may be a mistake."""
    # One process also runs where the system has no CPU affinity.
    if settings.workers > 1 and settings.workers > (usable := cores()):
        yield (
            f"workers {settings.workers}: more than the cores that this process may use"
            f" ({usable}), so some only cost memory; write auto, or a smaller number"
        )
    shared = settings.shared
    if shared.url is None and (given := [f"shared.{name}" for name in _given(shared)]):
        yield (
            f"{', '.join(given)}: shared.url isn't set, so this gateway shares nothing"
            " with others; set it, or remove these"
        )
    elif shared.url and "replicas" not in shared.model_fields_set:
        yield (
            f"shared.replicas is {shared.replicas}: until a gateway reaches the store,"
            " it uses the whole quota; set the number of gateways"
        )
    for at, rule in enumerate(settings.callers):
        if other := neighbour_of(rule.identity):
            yield (
                f"callers[{at}].identity {rule.identity}: it also matches {other};"
                " write the * after a separator, such as / or :"
            )
    withheld = {"withhold": settings.withhold} | {
        f"callers[{at}].withhold": rule.withhold
        for at, rule in enumerate(settings.callers)
    }
    for where, members in withheld.items():
        for member in sorted(members - MEMBERS.keys()):
            near = get_close_matches(member, MEMBERS, n=1)
            advice = f"; did you mean {near[0]}?" if near else ""
            yield f"{where} {member}: GetRun isn't known to return this member{advice}"


def _written(value: Any, is_file: Callable[[Path], bool]) -> str:
    if isinstance(value, SecretStr):  # a URL is masked like all others
        secret = value.get_secret_value()
        value = secret if "://" in secret else MASK
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path) and not is_file(value):
        return "(not a file)"
    return "" if value is None else str(value)
