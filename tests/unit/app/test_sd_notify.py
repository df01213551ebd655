"""What systemd receives, at a real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.sd_notify import ServiceManager

MOST_BYTES = 4096


class Systemd:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        """Listen at an address, which has an `@` if it is abstract."""
        self.environ = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        self._socket.bind(address.replace("@", "\0"))

    def received(self) -> str:
        """Return the next datagram; raise BlockingIOError if there is none."""
        return self._socket.recv(MOST_BYTES).decode()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """Listen at a socket with a file, and at one without."""
    is_file = request.param == "file"
    manager = Systemd(
        str(tmp_path / "notify") if is_file else f"@healthomics-gateway/{os.getpid()}"
    )
    yield manager
    manager.close()


def test_states_are_reported(systemd: Systemd) -> None:
    """Each state is one datagram, and a reload has the time of its beginning."""
    manager = ServiceManager(systemd.environ, clock_us=lambda: 1_234_567)
    for report in (manager.ready, manager.reloading, manager.ready, manager.stopping):
        report()

    assert "READY=1" == systemd.received()
    assert "RELOADING=1\nMONOTONIC_USEC=1234567" == systemd.received()
    assert "READY=1" == systemd.received()
    assert "STOPPING=1" == systemd.received()


def test_reload_during_the_drain_is_not_reported(systemd: Systemd) -> None:
    """It would make systemd take the service for one that goes on."""
    manager = ServiceManager(systemd.environ)
    for report in (manager.reloading, manager.stopping, manager.ready):
        report()
    manager.reloading()

    assert systemd.received().startswith("RELOADING=1")
    assert "STOPPING=1" == systemd.received()
    with pytest.raises(BlockingIOError):
        systemd.received()


@pytest.mark.parametrize("systemd", ["file"], indirect=True)
@pytest.mark.parametrize(
    "pid", [{}, {"WATCHDOG_PID": str(os.getpid())}], ids=["any", "own"]
)
def test_watchdog_is_fed_twice_in_each_period(
    systemd: Systemd, pid: dict[str, str]
) -> None:
    """The first report is sent at once, the next after half of the period."""
    timers: list[tuple[float, object, object]] = []
    environ = systemd.environ | {"WATCHDOG_USEC": "30000000"} | pid
    manager = ServiceManager(environ)
    manager.feed_watchdog(lambda *timer: timers.append(timer))
    ((seconds, again, call_later),) = timers
    again(call_later)

    assert 15.0 == seconds
    assert 2 == len(timers)
    assert ["WATCHDOG=1"] * 2 == [systemd.received(), systemd.received()]


@pytest.mark.parametrize("systemd", ["file"], indirect=True)
@pytest.mark.parametrize(
    ("watchdog", "events"),
    [
        pytest.param({}, [], id="none"),
        pytest.param(
            {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, [], id="another process"
        ),
        *(
            pytest.param({"WATCHDOG_USEC": period}, ["watchdog_not_fed"], id=name)
            for name, period in {
                "not a number": "soon",
                "other digits": "٣٠٠٠٠٠٠٠",
                "off": "0",
                "too short": "999999",
                "too long for a float": "9" * 400,
                "too long for an integer": "9" * 5000,
            }.items()
        ),
    ],
)
def test_watchdog_of_another_process_is_not_fed(
    systemd: Systemd, watchdog: dict[str, str], events: list[str]
) -> None:
    """Nothing is sent unless this process has a watchdog, with a possible period."""
    timers: list[object] = []
    with capture_logs() as logs:
        manager = ServiceManager(systemd.environ | watchdog)
    manager.feed_watchdog(lambda *timer: timers.append(timer))

    assert events == [each["event"] for each in logs]
    assert [] == timers
    with pytest.raises(BlockingIOError):
        systemd.received()


@pytest.mark.parametrize("systemd", ["file"], indirect=True)
@pytest.mark.parametrize(
    ("period_us", "expected"),
    [("1000000", 0.5), ("86400000000", 43_200.0), ("18446744073709551615", 43_200.0)],
)
def test_watchdog_is_fed_at_least_twice_a_day(
    systemd: Systemd, period_us: str, expected: float
) -> None:
    """A timer can't be set for the longest period."""
    timers: list[float] = []
    manager = ServiceManager(systemd.environ | {"WATCHDOG_USEC": period_us})
    manager.feed_watchdog(lambda seconds, *_: timers.append(seconds))

    assert [expected] == timers


def test_process_without_service_manager_sends_nothing() -> None:
    """Without NOTIFY_SOCKET nothing is sent, nothing is logged, and no timer is set."""
    timers: list[object] = []
    with capture_logs() as logs:
        manager = ServiceManager({"WATCHDOG_USEC": "30000000"})
        manager.ready()
    manager.feed_watchdog(lambda *timer: timers.append(timer))

    assert ([], []) == (logs, timers)


@pytest.mark.parametrize("address", ["vsock:2:1234", "notify", "/" + "x" * 200])
def test_address_that_cannot_be_used_is_logged_once(address: str) -> None:
    """Only Unix sockets are used, and their paths are short."""
    with capture_logs() as logs:
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        for _ in range(3):
            manager.ready()

    ((event, why),) = [(each["event"], each["why"]) for each in logs]
    assert "service_manager_unreachable" == event
    assert why


def test_service_manager_that_has_gone_is_logged(tmp_path: Path) -> None:
    """A socket that isn't there doesn't stop the gateway; only changes are logged."""
    address = str(tmp_path / "gone")
    with capture_logs() as logs:
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        manager.ready()
        manager.ready()
        systemd = Systemd(address)
        manager.ready()
        manager.ready()
        systemd.close()
        manager.ready()

    assert [
        ("service_manager_unreachable", "No such file or directory"),
        ("service_manager_reached", None),
        ("service_manager_unreachable", "Connection refused"),
    ] == [(each["event"], each.get("why")) for each in logs]


@pytest.mark.parametrize("systemd", ["file"], indirect=True)
def test_service_manager_that_does_not_read_is_not_waited_for(systemd: Systemd) -> None:
    """When the socket's queue is full, reports are dropped and logged."""
    manager = ServiceManager(systemd.environ)
    with capture_logs() as logs:
        while not logs:
            manager.ready()

    assert "service_manager_unreachable" == logs[0]["event"]
    assert "READY=1" == systemd.received()


@pytest.mark.parametrize("systemd", ["file"], indirect=True)
def test_reload_has_the_time_of_the_clock_that_systemd_reads(systemd: Systemd) -> None:
    """The clock is CLOCK_MONOTONIC, in microseconds."""
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    ServiceManager(systemd.environ).reloading()
    after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _, _, sent_us = systemd.received().rpartition("=")

    assert before_us <= int(sent_us) <= after_us
