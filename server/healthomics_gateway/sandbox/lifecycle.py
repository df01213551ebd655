"""The life of a run in half a minute, from PENDING to COMPLETED; pure."""

from datetime import datetime, timedelta

from healthomics_gateway.sandbox.runs import History, timestamp

LIFE_SECONDS = 30.0
"""From the creation of a walking run until it is COMPLETED."""

_STARTED_AFTER_SECONDS = 8.0
_STEPS = (  # the status from so many seconds after creation on, latest first
    (LIFE_SECONDS, "COMPLETED"),
    (25.0, "STOPPING"),
    (_STARTED_AFTER_SECONDS, "RUNNING"),
    (3.0, "STARTING"),
    (0.0, "PENDING"),
)


def history(created: datetime, age_seconds: float) -> History:
    """Returns what has happened to a run of this age; once COMPLETED it stays so."""
    status = next(status for since, status in _STEPS if age_seconds >= since)

    def moment(after_seconds: float) -> str | None:
        if age_seconds < after_seconds:
            return None
        return timestamp(created + timedelta(seconds=after_seconds), "milliseconds")

    return History(
        status=status,
        created=timestamp(created, "milliseconds"),
        started=moment(_STARTED_AFTER_SECONDS),
        stopped=moment(LIFE_SECONDS),
    )
