"""Replace the certificate, the rules and the processes of two gateways under load.

One channel of a stock grpcio client, with the documented service config, calls both
over TLS at a steady rate, and watches runs. Its calls go on while the certificate and
the rules change on disk, and while each gateway is ended with SIGTERM and started
again, one after the other. Ends with 0 if no call failed, every watch saw the end of
its run, and each gateway ended well; with 1 otherwise, and with 130 if it was
interrupted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import grpc
import trustme

from healthomics.v1.run_pb2 import RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from load.soaking.report import say
from testkit.authorities import root_of, tls_settings, write
from testkit.builders import ANYWHERE, Refusal, http
from testkit.callers import LIMS, bearing, rule, settings_of_tokens, token
from testkit.gateway_process import SERVICE_CONFIG, STOP_SECONDS, Served, serving
from testkit.lying_upstream import Answer, LyingUpstream, Request, true_run

NAME = "gateway.test"  # in the certificate
CALLS_A_SECOND = 50
DEADLINE_SECONDS = 10.0
WATCHED = [str(5_000_001 + at) for at in range(20)]
CALLED = [str(6_000_001 + at) for at in range(20)]
STEADY_SECONDS = 2.0  # between two steps
DRAIN_SECONDS = 25.0  # the default; a drain ends when the client has left
END_SECONDS = 15.0  # for watches to see the end of their runs
MOST_SECONDS = 180.0  # for everything, on a busy machine
RULES, NEW_RULES = rule(LIMS), rule(LIMS, withhold=["parameters"])
SETTINGS = {"GATEWAY_WATCH__INTERVAL": "1s"}
# Without a gateway's details, these codes mean that a stream was cut on its way.
CUT = {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"}
BACK_SECONDS = 0.5
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


@dataclass(slots=True)
class Result:
    """What the client saw, and how the gateways ended."""

    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # calls, by reason or code
    outdated: int = 0  # answers by the old rules after they had been replaced
    resumed: Counter[str] = field(default_factory=Counter)  # watches, by reason or code
    ends: Counter[str] = field(default_factory=Counter)  # watches, by status or failure
    exit_codes: list[int | None] = field(default_factory=list)  # None: it didn't end
    served: Counter[str] = field(default_factory=Counter)  # calls, by the process

    @property
    def faults(self) -> Iterator[str]:
        """What is wrong; nothing if all went well."""
        if self.failed or not self.calls:
            yield f"calls failed: {dict(self.failed) or 'none was made'}"
        if self.outdated:
            yield f"{self.outdated} answers followed the old rules"
        if self.ends != {"COMPLETED": len(WATCHED)}:
            yield f"watches didn't see the end of their runs: {dict(self.ends)}"
        if self.resumed.total() < len(WATCHED):
            yield "fewer watches were resumed than were opened: none was moved"
        if self.exit_codes != [0, 0]:
            yield f"gateways ended with {self.exit_codes}"
        if idle := [name for name, number in self.served.items() if not number]:
            yield f"no call was served by {', '.join(idle)}"

    def __str__(self) -> str:
        """Return the result as one line."""
        return (
            f"{self.calls:,} calls, {self.failed.total()} failed;"
            f" {self.ends.total()} watches, resumed {self.resumed.total()} times"
            f" ({', '.join(sorted(self.resumed)) or '-'}), ended {dict(self.ends)}"
        )


class Upstream(LyingUpstream):
    """A HealthOmics whose runs all end when the test says so."""

    def __init__(self) -> None:
        """Begin with runs that are running."""
        super().__init__(truth=self._run)
        self.status = "RUNNING"

    def _run(self, request: Request) -> Answer:
        uuid = f"00000000-0000-4000-8000-{int(request.run_id):012}"
        return http(true_run(request.run_id, status=self.status, uuid=uuid))


class Client:
    """Calls and watches of one channel until it is left."""

    def __init__(self, channel: grpc.aio.Channel, result: Result) -> None:
        """Count into `result`."""
        self._stub: Any = RunServiceStub(channel)
        self._result = result
        self._metadata = bearing(token(LIMS))
        self._is_over = False
        self.has_new_rules = False

    async def __aenter__(self) -> Self:
        """Begin to call and to watch."""
        self._calling = asyncio.create_task(self._call_steadily())
        self._watching = [asyncio.create_task(self._watch(each)) for each in WATCHED]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Make no more calls; end those under way, and the watches."""
        self._is_over = True
        await self._calling
        for each in self._watching:
            each.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def ended(self) -> None:
        """Wait until all watches have ended, or until END_SECONDS have passed."""
        await asyncio.wait(self._watching, timeout=END_SECONDS)

    async def _call_steadily(self) -> None:
        loop, number = asyncio.get_running_loop(), 0
        begun = loop.time()
        async with asyncio.TaskGroup() as calls:
            while not self._is_over:
                calls.create_task(self._call(CALLED[number % len(CALLED)]))
                number += 1
                await asyncio.sleep(begun + number / CALLS_A_SECOND - loop.time())

    async def _call(self, run_id: str) -> None:
        is_new = self.has_new_rules
        self._result.calls += 1
        try:
            run = await self._stub.GetRun(
                GetRunRequest(id=run_id),
                timeout=DEADLINE_SECONDS,
                metadata=self._metadata,
            )
        except grpc.aio.AioRpcError as error:
            self._result.failed[_name_of(Refusal(error))] += 1
        else:
            if run.id != run_id:
                self._result.failed["another run"] += 1
            self._result.outdated += is_new and run.HasField("parameters")

    async def _watch(self, run_id: str) -> None:
        """Watch a run to its end, and again as docs/guide/clients.md says."""
        request, status = WatchRunRequest(id=run_id), ""
        while True:
            try:
                async for response in self._stub.WatchRun(
                    request, metadata=self._metadata
                ):
                    request.uuid = response.run.uuid
                    status = RunStatus.Name(response.run.status)
            except grpc.aio.AioRpcError as error:
                refusal = Refusal(error)
                seconds = retry_delay(refusal)
                if seconds is None:
                    self._result.ends[_name_of(refusal)] += 1
                    return
                self._result.resumed[_name_of(refusal)] += 1
                await asyncio.sleep(seconds)
            else:
                self._result.ends[status.removeprefix("RUN_STATUS_")] += 1
                return


def _name_of(refusal: Refusal) -> str:
    return refusal.reason if refusal.details else refusal.code.name


def retry_delay(refusal: Refusal) -> float | None:
    """Return the wait in seconds before a watch is resumed; None if it must not be."""
    info: Any = refusal.details.get("RetryInfo")
    if info:
        return float(info.retry_delay.ToMilliseconds() / 1000)
    is_cut = not refusal.details and refusal.code.name in CUT
    return BACK_SECONDS if is_cut else None


class Replica:
    """One of the two gateways: its files, and its process."""

    def __init__(self, name: str, folder: Path, upstream: Upstream) -> None:
        """Create it without a process."""
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.rules = self.folder / "gateway.toml"
        self.rules.write_text(RULES)
        self._upstream = upstream
        self._stack = AsyncExitStack()
        self.served: Served
        self.address = ANYWHERE

    async def start(self, settings: dict[str, str]) -> None:
        """Start the process, at the address of the one before."""
        self._settings = settings
        process = serving(
            self._upstream.url,
            arguments=("--config", str(self.rules)),
            listen=self.address,
            **settings,
        )
        self.served = await self._stack.enter_async_context(process)
        self.address = self.served.address

    async def restart(self) -> int | None:
        """End the process with SIGTERM, start another; return the exit code."""
        self.served.terminate()
        try:
            code: int | None = await self.served.ended(DRAIN_SECONDS + STOP_SECONDS)
        except TimeoutError:
            code = None
        await self.stop()
        await self.start(self._settings)
        return code

    async def stop(self) -> None:
        """End the process, if it runs."""
        await self._stack.aclose()


@asynccontextmanager
async def replicas(
    folder: Path, upstream: Upstream, authority: trustme.CA
) -> AsyncIterator[list[Replica]]:
    """Start two gateways over TLS, whose callers have tokens."""
    both = [Replica(name, folder, upstream) for name in ("first", "second")]
    try:
        for each in both:
            certificate = authority.issue_cert(NAME)
            settings = settings_of_tokens(folder) | SETTINGS
            await each.start(settings | tls_settings(certificate, each.folder))
        yield both
    finally:
        for each in both:
            await each.stop()


def connected(both: list[Replica], authority: trustme.CA) -> grpc.aio.Channel:
    """Return the channel of the documented client."""
    options = {
        "grpc.service_config": SERVICE_CONFIG.read_text(),
        "grpc.default_authority": NAME,
    }
    return grpc.aio.secure_channel(
        "ipv4:" + ",".join(each.address for each in both),
        grpc.ssl_channel_credentials(root_of(authority)),
        list(options.items()),
    )


async def rolled() -> Result:
    """Do everything; print each step, and return the result."""
    result, authority, steps = Result(), trustme.CA(), Steps()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        upstream = await stack.enter_async_context(Upstream())
        both = await stack.enter_async_context(replicas(folder, upstream, authority))
        channel = await stack.enter_async_context(connected(both, authority))
        client = await stack.enter_async_context(Client(channel, result))
        await steps.done("two gateways serve")
        for each in both:
            write(authority.issue_cert(NAME), each.folder)
        for each in both:
            await each.served.event("certificate_replaced")
        await steps.done("the certificate is replaced")
        for each in both:
            each.rules.write_text(NEW_RULES)
        for each in both:
            await each.served.event("configuration_reloaded")
        client.has_new_rules = True
        await steps.done("the rules are reloaded")
        for each in both:
            result.exit_codes.append(await each.restart())
            await each.served.event("call")  # the client is back
            await steps.done(f"the {each.name} gateway is restarted")
        upstream.status = "COMPLETED"
        await client.ended()
        for each in both:
            names = [event["event"] for event in each.served.events()]
            result.served[each.name] = names.count("call")
        await steps.done("the runs have ended")
    return result


class Steps:
    """Prints each step, and lets the load go on for a while."""

    def __init__(self) -> None:
        """Start the clock."""
        self._begun = time.monotonic()

    async def done(self, what: str) -> None:
        """Print what is done."""
        say(f"{time.monotonic() - self._begun:6.1f} s  {what}")
        await asyncio.sleep(STEADY_SECONDS)


async def bounded() -> Result:
    """Do everything within MOST_SECONDS, or raise TimeoutError."""
    async with asyncio.timeout(MOST_SECONDS):
        return await rolled()


def main() -> int:
    """Run the program and return its exit code."""
    say(f"{CALLS_A_SECOND} calls a second and {len(WATCHED)} watches, two gateways")
    try:
        result = asyncio.run(bounded())
    except KeyboardInterrupt:
        return INTERRUPTED
    except TimeoutError:
        say(f"it wasn't done within {MOST_SECONDS:g} s")
        return 1
    faults = list(result.faults)
    say(str(result), *faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
