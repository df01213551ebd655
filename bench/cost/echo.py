"""A bare grpc.aio server that always returns the same `Run`: the lower limit of cost.

It sends no upstream request and has no interceptors. grpc parses the request and
serializes the response for each call, as in any server.
"""

import argparse
import asyncio

from grpc import aio

from common import canned_run
from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    add_RunServiceServicer_to_server,
)


class Echo(RunServiceServicer):
    """Returns the same run for every request."""

    def __init__(self) -> None:
        self._run = canned_run.run(canned_run.RUN_ID)
        self._run.observe_time.GetCurrentTime()

    async def GetRun(  # noqa: N802 - the method's name in the proto
        self,
        request: GetRunRequest,  # noqa: ARG002 - grpc passes it
        context: object,  # noqa: ARG002 - grpc passes it
    ) -> Run:
        """Return the run."""
        return self._run


async def serve(port: int) -> None:
    """Serve on loopback until the process is terminated."""
    server = aio.server()
    servicer = Echo()  # type: ignore[abstract]  # it implements only GetRun
    add_RunServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    asyncio.run(serve(parser.parse_args().port))
