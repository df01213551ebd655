"""A HealthOmics that records the truths it serves, and has bursts of faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random

from load.attacks import FIRST_ID as FIRST_ATTACKED
from load.soaking.judge import SESSION_TOKEN
from load.soaking.ledger import Ledger, Served
from load.soaking.lies import lie
from load.soaking.truths import truth
from testkit.builders import http
from testkit.lying_upstream import (
    CLOSE,
    LyingUpstream,
    Part,
    Request,
    Wait,
    said,
    true_run,
)

FIRST_ID, RUNS = 1_000_000, 2_000
BURST_SHARE = 0.3  # of the seconds
FAULT_SHARE = {True: 0.45, False: 0.03}  # of the answers: in a burst, and outside one
CLOSING_SHARE = 0.02  # of the true answers: the connection closes after them
LEFTOVER_SHARE = 0.01  # of the true answers: an unrequested error follows
UNREAD = {"sample": "x" * 98_000}  # the run that attackers watch without reading
MOST_SECONDS = 0.03  # that a true answer waits
REBINDS = 100  # at most, as another program may take the port for a moment
REBIND_SECONDS = 0.05


class SoakUpstream(LyingUpstream):
    """Answers request number n about a run as the seed determines."""

    def __init__(self, ledger: Ledger, *, seed: int) -> None:
        """Record everything in `ledger`."""
        super().__init__(session_token=SESSION_TOKEN)
        self._ledger = ledger
        self._seed = seed
        self._begun = time.monotonic()
        self.strays: list[str] = []  # requests that the gateway must not make

    async def outage(self, seconds: float) -> None:
        """Accept no connections for a while; open connections stay."""
        begun = time.monotonic()
        self._ledger.outage(begun)
        self._server.stop_listening()
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._listen_again()
            self._ledger.outage(begun, time.monotonic())

    async def _listen_again(self) -> None:
        for _ in range(REBINDS):
            try:
                await self._server.listen()
            except OSError:
                await asyncio.sleep(REBIND_SECONDS)
            else:
                return
        raise OSError(f"port {self.port} is taken")

    def _answer(self, request: Request) -> Sequence[Part]:
        self.requests.clear()  # the ledger has the necessary data
        run_id, nth = request.run_id, self.asked[request.run_id]
        if run_id == str(FIRST_ATTACKED) and not request.fault:
            return [http(true_run(run_id, parameters=UNREAD))]
        if request.fault or not _is_proper(request):
            self.strays.append(f"{request.target} {request.fault}".rstrip())
            return [http(status=500)]
        random = Random(f"{self._seed} {run_id} {nth}")  # reproduced by its seed
        text = truth(random, run_id, nth)
        if random.random() < self._fault_share(request.at):
            return self._false_answer(random, request, text)
        return self._true_answer(random, request, text)

    def _fault_share(self, at: float) -> float:
        second = int(at - self._begun)
        random = Random(f"{self._seed} second {second}")  # reproduced by its seed
        return FAULT_SHARE[random.random() < BURST_SHARE]

    def _false_answer(
        self, random: Random, request: Request, text: str
    ) -> Sequence[Part]:
        drawn = lie(random, request.run_id, text)
        served = Served(
            at=request.at,
            request_id=drawn.request_id,
            reasons=drawn.reasons,
            lasts_seconds=drawn.lasts_seconds,
        )
        self._ledger.serve(request.run_id, served, fault=drawn.fault)
        return drawn.parts

    def _true_answer(
        self, random: Random, request: Request, text: str
    ) -> Sequence[Part]:
        wait = random.random() * MOST_SECONDS
        request_id = f"{random.getrandbits(128):032x}"
        served = Served(request.at, request_id, text=text, lasts_seconds=wait)
        self._ledger.serve(request.run_id, served)
        answer = http(text, x_amzn_requestid=request_id)
        if random.random() < LEFTOVER_SHARE:
            answer += said(404, "ResourceNotFoundException")
        parts = [Wait(wait), answer]
        return [*parts, CLOSE] if random.random() < CLOSING_SHARE else parts


def _is_proper(request: Request) -> bool:
    path, _, query = request.target.partition("?")
    is_known = request.run_id.isdecimal() and (
        FIRST_ID <= int(request.run_id) < FIRST_ID + RUNS
    )
    is_asked = path == f"/run/{request.run_id}" and query in ("", "export=DEFINITION")
    return is_known and is_asked
