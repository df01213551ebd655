"""The floor: a bare grpc.aio servicer that answers one `Run`, made once at the start.

It asks nobody and has no interceptors; grpc reads the request and writes the answer
per call, as for any servicer.
"""

import argparse
import asyncio

import canned
from grpc import aio

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    add_RunServiceServicer_to_server,
)


class Echo(RunServiceServicer):
    """Answers the same run to everyone."""

    def __init__(self) -> None:
        self._run = canned.run(canned.RUN_ID)
        self._run.observe_time.GetCurrentTime()

    async def GetRun(  # noqa: N802 - the contract's name
        self,
        request: GetRunRequest,  # noqa: ARG002 - grpc passes it
        context: object,  # noqa: ARG002 - grpc passes it
    ) -> Run:
        """Return the run."""
        return self._run


async def serve(port: int) -> None:
    """Answer on loopback until the process is ended."""
    server = aio.server()
    servicer = Echo()  # type: ignore[abstract]  # it answers GetRun alone
    add_RunServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    asyncio.run(serve(parser.parse_args().port))
