"""One load of GetRun calls from h2load, and the proof that each was really answered."""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import canned
import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from programs import BenchError

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub

_METHOD = "/healthomics.v1.RunService/GetRun"
_CONNECTIONS = 4
_STREAMS = 16  # calls in flight on each connection
_PREFIX_BYTES = 5  # before each gRPC message: flag and length
_CALL_SECONDS = 10.0

_FINISHED = re.compile(r"finished in ([0-9.]+)(us|ms|s)\b")
_SUCCEEDED = re.compile(r"([0-9]+) succeeded")
_DATA = re.compile(r"\(([0-9]+)\) data")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What h2load saw of one load."""

    seconds: float
    succeeded: int  # calls with HTTP status 200, which gRPC's errors have too
    data_bytes: int  # of messages alone: a gRPC error has none

    @classmethod
    def read(cls, output: str) -> Self:
        """Read h2load's own words."""
        finished = _FINISHED.search(output)
        succeeded = _SUCCEEDED.search(output)
        data = _DATA.search(output)
        if not (finished and succeeded and data):
            raise BenchError(f"h2load said something else than expected:\n{output}")
        return cls(
            seconds=float(finished[1]) * _SECONDS[finished[2]],
            succeeded=int(succeeded[1]),
            data_bytes=int(data[1]),
        )


class Request:
    """The one call that every load repeats.

    `h2load` is the program's path, `folder` takes the framed request that it sends.
    """

    def __init__(self, *, h2load: str, folder: Path) -> None:
        self._h2load = h2load
        self._message = GetRunRequest(id=canned.RUN_ID)
        self._answer = canned.run(canned.RUN_ID)
        # Of `observe_time` only its seconds are sure to be sent.
        timed = Run(observe_time=Timestamp(seconds=int(time.time())))
        run_bytes = self._answer.ByteSize() + timed.ByteSize()
        self._least_bytes = _PREFIX_BYTES + run_bytes  # an answer has these or 6 more
        self._file = folder / "request.bin"
        message = self._message.SerializeToString()
        self._file.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)

    def send(self, calls: int, *, port: int) -> Load:
        """Send `calls` calls; raise `BenchError` unless each brought a whole run."""
        done = subprocess.run(
            [
                self._h2load,
                f"--requests={calls}",
                f"--clients={_CONNECTIONS}",
                f"--max-concurrent-streams={_STREAMS}",
                f"--data={self._file}",
                "--header=content-type: application/grpc",
                "--header=te: trailers",
                f"http://127.0.0.1:{port}{_METHOD}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        load = Load.read(done.stdout)
        if load.succeeded != calls or load.data_bytes < calls * self._least_bytes:
            raise BenchError(f"not all of {calls} calls were answered:\n{done.stdout}")
        return load

    def check(self, port: int) -> None:
        """Make the call with grpc's own client; raise unless the answer is the run.

        An error status is raised as `grpc.RpcError`, a wrong run as `BenchError`.
        """
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            call = RunServiceStub(channel).GetRun
            answer = call(self._message, timeout=_CALL_SECONDS)
        if not answer.HasField("observe_time"):
            raise BenchError(f"the answer has no observe_time:\n{answer}")
        answer.ClearField("observe_time")
        if answer != self._answer:
            raise BenchError(f"the answer isn't the canned run:\n{answer}")
