"""The history of a run that goes from PENDING to COMPLETED in half a minute."""

from datetime import datetime, timedelta

from healthomics_gateway.sandbox.runs import History, timestamp

LIFE_SECONDS = 30.0
"""The time from the creation of a run until it is COMPLETED."""

_STARTED_AFTER_SECONDS = 8.0
_STEPS = (  # from these seconds after creation, the status; latest first
    (LIFE_SECONDS, "COMPLETED"),
    (25.0, "STOPPING"),
    (_STARTED_AFTER_SECONDS, "RUNNING"),
    (3.0, "STARTING"),
    (0.0, "PENDING"),
)


def history(created: datetime, age_seconds: float) -> History:
    """Return the history of a run of this age; COMPLETED is the last status."""
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
