"""The states of a watched run, and what each selection makes of them."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import WatchRunResponse

if TYPE_CHECKING:
    from healthomics_gateway.runs.field_mask import Selection


MAX_VIEWS = 16  # selections of a state whose responses are kept
DIGEST_BYTES = 16


class View(NamedTuple):
    """What a selection makes of a state."""

    body: bytes  # the encoded response
    digest: bytes  # equal for states between which its caller sees no difference


class State:
    """One state of a run, and what selections make of it."""

    __slots__ = ("_views", "digest", "number", "run")

    def __init__(self, number: int, run: Run, digest: bytes) -> None:
        self.number = number
        self.run = run
        self.digest = digest
        self._views: dict[Selection, View] = {}

    def kept(self, selection: Selection) -> View | None:
        """Return what was made before, or `None`."""
        return self._views.get(selection)

    def view(self, selection: Selection) -> View:
        """Return what a caller receives; the first `MAX_VIEWS` are kept for others."""
        view = self._views.get(selection)
        if view is None:
            run = selection.of(self.run)
            body = WatchRunResponse(run=run).SerializeToString()
            view = View(body, self.digest if run is self.run else digest_of(run))
            if len(self._views) < MAX_VIEWS:
                self._views[selection] = view
        return view


def digest_of(run: Run) -> bytes:
    """Tell two states apart; when they were observed makes no difference."""
    timeless = Run()
    timeless.CopyFrom(run)
    timeless.ClearField("observe_time")
    written = timeless.SerializeToString(deterministic=True)
    return blake2b(written, digest_size=DIGEST_BYTES).digest()
