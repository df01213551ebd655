"""The limit on open files, and the number of connections that it allows."""

from __future__ import annotations

import resource

# The most files that the gateway itself opens: the interpreter, the event loop,
# listeners, the admin pages, threads that call STS or read files. Each attempt at
# HealthOmics needs one more. The rest of the limit is for connections of callers.
OWN_FILES = 96
MIN_CONNECTIONS = 16
MAX_OPTION = 2**31 - 1  # the largest value of an option of gRPC


def files_fault(max_concurrent: int, files: int | None = None) -> str | None:
    """Return a fault if the limit on open files is too low, else None.

    Each of `max_concurrent` attempts needs a file. `files` is the limit; the default is
    that of this process.
    """
    files = _limit() if files is None else files
    needed = OWN_FILES + max_concurrent + MIN_CONNECTIONS
    if files == resource.RLIM_INFINITY or files >= needed:
        return None
    return (
        f"limit on open files {files}: at least {needed} are needed with"
        f" upstream.max_concurrent {max_concurrent}, better 1024 more; set it with"
        " ulimit -n, or with LimitNOFILE= in a unit of systemd"
    )


def max_connections(
    max_concurrent: int, addresses: int, files: int | None = None
) -> int:
    """Return the limit on connections of each address, by the limit on open files.

    Connections use half of the files, or less if HealthOmics and the gateway itself
    need more than the other half. `files` is as for `files_fault`.
    """
    files = _limit() if files is None else files
    if files == resource.RLIM_INFINITY:
        return MAX_OPTION
    left = min(files // 2, files - OWN_FILES - max_concurrent)
    return min(max(1, left // addresses), MAX_OPTION)


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
