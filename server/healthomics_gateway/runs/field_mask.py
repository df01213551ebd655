"""Selects the members of a run that a caller receives.

These are the members in the request's field mask, without those that are withheld. A
member may be in its field or in `unmodeled_json`, so both are always treated alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.runs.source import FIRST_OWN_FIELD

ALL = "*"


def _paths_of(message: Descriptor) -> dict[str, str]:
    """Map each path that a mask may have to AWS's path of the same member."""
    paths = {}
    for field in message.fields:
        paths[field.name] = field.json_name
        inner = field.message_type
        if inner and inner.file.package == "healthomics.v1" and not field.is_repeated:
            paths |= {
                f"{field.name}.{path}": f"{field.json_name}.{name}"
                for path, name in _paths_of(inner).items()
            }
    return paths


PATHS = _paths_of(Run.DESCRIPTOR)
_OWN = {each.name for each in Run.DESCRIPTOR.fields if each.number >= FIRST_OWN_FIELD}
MEMBERS = {name: path for path, name in PATHS.items() if path not in _OWN}
_STRUCTURES = {name.partition(".")[0] for name in MEMBERS if "." in name}
_STRUCTURE_FIELDS = {path.partition(".")[0] for path in PATHS if "." in path}


@dataclass(frozen=True, slots=True)
class Selection:
    """The paths of `Run` to return, `None` for all, and AWS's names to withhold."""

    paths: frozenset[str] | None = None
    withheld: frozenset[str] = frozenset()

    def of(self, run: Run) -> Run:
        """Return the run itself, or a copy without the members that are left out."""
        if self.paths is None and not self.withheld:
            return run
        selected = self._masked(run)
        _withhold(selected, self.withheld)
        _clear_empty_structures(selected)
        selected.observe_time.CopyFrom(run.observe_time)
        return selected

    def _masked(self, run: Run) -> Run:
        selected = Run()
        if self.paths is None:
            selected.CopyFrom(run)
            return selected
        FieldMask(paths=self.paths).MergeMessage(run, selected)
        names = {PATHS[path] for path in self.paths}
        around = {name.partition(".")[0] for name in names}
        for key, text in run.unmodeled_json.items():
            # A member that the mask names, or one inside or around such a member.
            if key in names or key in around or _structure_of(key) in names:
                selected.unmodeled_json[key] = text
        return selected


def _structure_of(key: str) -> str:
    """Return the structure that holds a member, or an empty string."""
    structure, dot, _ = key.partition(".")
    return structure if dot and structure in _STRUCTURES else ""


def _withhold(run: Run, names: frozenset[str]) -> None:
    """Remove the named members, and each member that may hold one of them.

    Members of a structure of the contract are removed one by one. Any other member is
    removed as a whole, even if the name is of something inside it (`parameters.token`),
    or if AWS sent a structure as another type.
    """
    whole = {name.partition(".")[0] for name in names}
    for key in [each for each in run.unmodeled_json if _may_hold(each, names, whole)]:
        del run.unmodeled_json[key]
    for name in names:
        _clear(run, name)


def _clear(run: Run, name: str) -> None:
    """Clear the field of a member."""
    structure = name.partition(".")[0]
    known = name if structure in _STRUCTURES else structure
    *outer, field = MEMBERS.get(known, "").split(".")
    message: Any = run
    for each in outer:
        if not message.HasField(each):
            return
        message = getattr(message, each)
    if field:
        message.ClearField(field)


def _may_hold(key: str, names: frozenset[str], whole: set[str]) -> bool:
    """Return whether a member of `unmodeled_json` may hold a named one, or part of it.

    A key is quoted if the member's own name looks like a path. It counts as that path.
    """
    member = json.loads(key) if key.startswith('"') else key
    return member in whole or member in names or _structure_of(member) in names


def _clear_empty_structures(run: Any) -> None:
    """Clear the structures that have no members left."""
    for field in _STRUCTURE_FIELDS:
        if run.HasField(field) and not getattr(run, field).ListFields():
            run.ClearField(field)


def unknown_paths(paths: Iterable[str]) -> list[int]:
    """Return the positions of the paths that a mask may not have."""
    return [at for at, path in enumerate(paths) if path != ALL and path not in PATHS]
