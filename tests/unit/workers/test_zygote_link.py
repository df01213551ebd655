"""Orders to a zygote that is slow to take them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from healthomics_gateway.workers.zygote_link import MAX_MESSAGE, ZygoteLink

ORDERS = 500  # more than a socket's buffer takes


class Zygote:
    """The other end of a link, at which the test takes the orders."""

    def __init__(self) -> None:
        """Connect a link."""
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE)
        self.link = ZygoteLink(ours, 0)
        self.link.open(forked=lambda *_: None, ended=lambda *_: None)
        self.orders: asyncio.Queue[Any] = asyncio.Queue()
        self.controls: list[socket.socket] = []

    def take(self) -> None:
        """Take all orders from now on."""
        asyncio.get_running_loop().add_reader(self.socket, self._take)

    def _take(self) -> None:
        data, files, *_ = socket.recv_fds(self.socket, MAX_MESSAGE, 1)
        self.orders.put_nowait(json.loads(data))
        self.controls += [socket.socket(fileno=each) for each in files]

    def close(self) -> None:
        """Close all sockets of this end."""
        asyncio.get_running_loop().remove_reader(self.socket)
        for each in (self.socket, *self.controls):
            each.close()


@contextmanager
def connected() -> Iterator[Zygote]:
    """Run a zygote that takes no orders yet."""
    zygote = Zygote()
    try:
        yield zygote
    finally:
        zygote.close()
        zygote.link.close()


def fork(link: ZygoteLink) -> socket.socket:
    """Order a worker; return the supervisor's end of its connection."""
    ours, theirs = socket.socketpair()
    with theirs:
        link.fork(5, theirs)
    ours.settimeout(10)
    return ours


async def test_worker_is_killed_without_the_zygote() -> None:
    """Only one that it has started, and that may still run."""
    worker = await asyncio.create_subprocess_exec("sleep", "60")
    with connected() as zygote:
        zygote.socket.send(json.dumps({"number": 0, "pid": worker.pid}).encode())
        zygote.socket.shutdown(socket.SHUT_RDWR)
        await zygote.link.closed.wait()
        zygote.link.kill(0)
        zygote.link.kill(worker.pid)
        assert -signal.SIGKILL == await worker.wait()
        zygote.link.kill(worker.pid)


async def test_orders_to_a_stopped_zygote_arrive_when_it_runs_again() -> None:
    """None is lost, and they keep their order."""
    with connected() as zygote:
        for pid in range(ORDERS):
            zygote.link.kill(pid)
        ours = fork(zygote.link)
        zygote.link.end_within(3.0)
        zygote.take()
        taken = [await zygote.orders.get() for _ in range(ORDERS + 2)]
        (control,) = zygote.controls
        control.sendall(b"x")

        kills = [{"kill": pid} for pid in range(ORDERS)]
        assert [*kills, {"fork": 5}, {"end": 3.0}] == taken
        assert b"x" == ours.recv(1)
        ours.close()
        zygote.link.kill(7)  # it is sent at once again
        assert {"kill": 7} == await zygote.orders.get()


async def test_order_that_waits_is_not_repeated() -> None:
    """A frozen worker is killed each second, so the orders would become ever more."""
    with connected() as zygote:
        for pid in (*range(ORDERS), *range(ORDERS)):
            zygote.link.kill(pid)
        zygote.link.end_within(3.0)
        zygote.take()
        taken = []
        while {"end": 3.0} not in taken:
            taken.append(await zygote.orders.get())

        # Those that the socket had taken may come again.
        assert ORDERS <= len(taken) - 1 < 2 * ORDERS
        assert set(range(ORDERS)) == {each.get("kill", 0) for each in taken}


async def test_connection_of_a_worker_is_closed_if_the_zygote_ends() -> None:
    """Else the supervisor would wait for a worker that is never forked."""
    with connected() as zygote:
        for pid in range(ORDERS):
            zygote.link.kill(pid)
        ours = fork(zygote.link)
        zygote.socket.shutdown(socket.SHUT_RDWR)
        await zygote.link.closed.wait()

        assert b"" == ours.recv(1)
        ours.close()


async def test_connection_of_a_worker_is_closed_with_the_link() -> None:
    """No order is left behind."""
    with connected() as zygote:
        for pid in range(ORDERS):
            zygote.link.kill(pid)
        ours = fork(zygote.link)

    assert b"" == ours.recv(1)
    ours.close()
