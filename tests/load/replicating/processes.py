"""Finds the processes of a gateway, and the sockets that each of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTENING, ESTABLISHED = "0A", "01"  # in /proc/net/tcp
# gRPC listens on an IPv6 socket, whose clients may be of IPv4.
LOOPBACK = {"tcp": "0100007F", "tcp6": "0000000000000000FFFF00000100007F"}


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets of the processes below one, on a port of loopback."""

    listening: frozenset[int]  # pids
    connections: dict[int, int]  # the number that each has accepted


def descendants(pid: int) -> set[int]:
    """Return the pids of all processes below a process."""
    parents = dict(_parents())
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def sockets(pid: int, port: int) -> Sockets:
    """Return the sockets of the processes below `pid`, and of itself."""
    states = _states(port)
    pids = descendants(pid) | {pid}
    held = {each: [states.get(inode, "") for inode in _inodes(each)] for each in pids}
    return Sockets(
        frozenset(each for each in held if LISTENING in held[each]),
        {each: held[each].count(ESTABLISHED) for each in held},
    )


def pss_mib(pid: int) -> float:
    """Return a process's memory, in MiB; shared pages count by their share."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    (line,) = (each for each in lines if each.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def _parents() -> Iterator[tuple[int, int]]:
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            # The name, in parentheses, may contain spaces.
            yield int(folder.name), int(stat.rpartition(")")[2].split()[1])


def _states(port: int) -> dict[str, str]:
    """Return the states of the sockets of a port of loopback, by inode."""
    states = {}
    for file, address in LOOPBACK.items():
        for row in (PROC / "net" / file).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            if local == f"{address}:{port:04X}":
                states[inode] = state
    return states


def _inodes(pid: int) -> Iterator[str]:
    try:
        for file in (PROC / str(pid) / "fd").iterdir():
            target = str(file.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except (FileNotFoundError, ProcessLookupError):
        return  # the process or the file has just gone
