"""Send loads of GetRun calls with h2load, and check that each call returned a run."""

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from common import canned_run
from common.programs import BenchError
from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub

_METHOD = "/healthomics.v1.RunService/GetRun"
LANES = 16  # concurrent calls
_PREFIX_BYTES = 5  # flag and length before each gRPC message
_CALL_SECONDS = 10.0

_FINISHED = re.compile(r"finished in ([0-9.]+)(us|ms|s)\b")
_SUCCEEDED = re.compile(r"([0-9]+) succeeded")
_DATA = re.compile(r"\(([0-9]+)\) data")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """The results of one load, as h2load reports them."""

    seconds: float
    succeeded: int  # calls with HTTP status 200, which gRPC errors have too
    data_bytes: int  # bytes of messages; a gRPC error has none

    @classmethod
    def parse(cls, output: str) -> Self:
        """Parse h2load's output. Raises `BenchError` if it isn't as expected."""
        finished = _FINISHED.search(output)
        succeeded = _SUCCEEDED.search(output)
        data = _DATA.search(output)
        if not (finished and succeeded and data):
            raise BenchError(f"h2load's output can't be parsed:\n{output}")
        return cls(
            seconds=float(finished[1]) * _SECONDS[finished[2]],
            succeeded=int(succeeded[1]),
            data_bytes=int(data[1]),
        )


class Request:
    """The request that a load repeats in each lane, with a run ID per lane.

    A lane has a connection of its own and one call at a time, so concurrent calls never
    ask for the same run. `h2load` is the program's path, which runs on `cores`. The
    request bodies for h2load are written to `folder`. A lane sends `lane_rate` calls a
    second, or as many as possible if that is 0.
    """

    def __init__(
        self,
        *,
        h2load: str,
        folder: Path,
        max_staleness_seconds: int,
        cores: set[int],
        lane_rate: int = 0,
    ) -> None:
        self._h2load = h2load
        self._cores = cores
        self._rate = [f"--rps={lane_rate}"] if lane_rate else []
        self._staleness = Duration(seconds=max_staleness_seconds)
        self._answer = canned_run.run(canned_run.RUN_ID)
        # The nanoseconds of `observe_time` take up to 6 more bytes.
        timed = Run(observe_time=Timestamp(seconds=int(time.time())))
        run_bytes = self._answer.ByteSize() + timed.ByteSize()
        self._min_bytes = _PREFIX_BYTES + run_bytes  # of one response
        self._files = [
            self._framed(folder, str(int(canned_run.RUN_ID) + lane))
            for lane in range(LANES)
        ]

    def _framed(self, folder: Path, run_id: str) -> Path:
        file = folder / f"request-{run_id}-{self._staleness.seconds}.bin"
        message = self._message(run_id).SerializeToString()
        file.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        return file

    def _message(self, run_id: str) -> GetRunRequest:
        return GetRunRequest(id=run_id, max_staleness=self._staleness)

    def send(self, calls: int, *, port: int) -> Load:
        """Send `calls` calls in each lane, and return the results of all lanes.

        `seconds` is the time of the slowest lane. Raises `BenchError` unless each call
        returned a run.
        """
        lanes = [self._lane(file, calls, port) for file in self._files]
        loads = []
        for lane in lanes:
            output, _ = lane.communicate()
            load = Load.parse(output)
            if load.succeeded != calls or load.data_bytes < calls * self._min_bytes:
                raise BenchError(f"not all of {calls} calls returned a run:\n{output}")
            loads.append(load)
        return Load(
            seconds=max(load.seconds for load in loads),
            succeeded=sum(load.succeeded for load in loads),
            data_bytes=sum(load.data_bytes for load in loads),
        )

    def _lane(self, file: Path, calls: int, port: int) -> subprocess.Popen[str]:
        lane = subprocess.Popen(
            [
                self._h2load,
                f"--requests={calls}",
                "--clients=1",
                "--max-concurrent-streams=1",
                *self._rate,
                f"--data={file}",
                "--header=content-type: application/grpc",
                "--header=te: trailers",
                f"http://127.0.0.1:{port}{_METHOD}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.sched_setaffinity(lane.pid, self._cores)
        return lane

    def check(self, port: int) -> None:
        """Make one call with grpc's own client and compare the response with the run.

        Raises `grpc.RpcError` for an error status and `BenchError` for a wrong run.
        """
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            call = RunServiceStub(channel).GetRun
            answer = call(self._message(canned_run.RUN_ID), timeout=_CALL_SECONDS)
        if not answer.HasField("observe_time"):
            raise BenchError(f"the response has no observe_time:\n{answer}")
        answer.ClearField("observe_time")
        if answer != self._answer:
            raise BenchError(f"the response isn't the expected run:\n{answer}")
