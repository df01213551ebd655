"""gRPC's Channelz service: the process's servers, their connections and counts.

Channels, which the process has as a client, aren't shown: callers needn't know where
the gateway sends its traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc.aio import ServicerContext
from grpc_channelz.v1 import channelz_pb2_grpc
from grpc_channelz.v1.channelz import ChannelzServicer
from grpc_channelz.v1.channelz_pb2 import (
    GetChannelRequest,
    GetServerRequest,
    GetServerSocketsRequest,
    GetServersRequest,
    GetSocketRequest,
    GetSubchannelRequest,
    GetTopChannelsRequest,
    GetTopChannelsResponse,
)

MAX_RESULTS = 100  # sockets in one answer; gRPC limits servers likewise


class Channelz(channelz_pb2_grpc.ChannelzServicer):  # type: ignore[misc]  # the package has no type hints
    """Answers from the data that gRPC collects about the whole process.

    The servicer of grpcio-channelz sends gRPC's own error texts, returns no message if
    it fails, and as many sockets as a client asks for. It is asked for each answer,
    because it reads the data by functions that aren't public.
    """

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        channelz_pb2_grpc.add_ChannelzServicer_to_server(self, server)

    async def GetTopChannels(  # noqa: N802  # gRPC's own name of the method
        self, _request: GetTopChannelsRequest, _rpc: ServicerContext[Any, Any]
    ) -> GetTopChannelsResponse:
        """Return no channel: they show where the gateway exports its traces."""
        return GetTopChannelsResponse(end=True)

    async def GetServers(  # noqa: N802  # gRPC's own name of the method
        self, request: GetServersRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return the servers: one for each listener."""
        request.start_server_id = max(0, request.start_server_id)
        return await _answer(ChannelzServicer.GetServers, request, rpc)

    async def GetServer(  # noqa: N802  # gRPC's own name of the method
        self, request: GetServerRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return one server; abort with NOT_FOUND if there is none of this id."""
        return await _answer(ChannelzServicer.GetServer, request, rpc)

    async def GetServerSockets(  # noqa: N802  # gRPC's own name of the method
        self, request: GetServerSocketsRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return at most MAX_RESULTS connections of a server."""
        request.start_socket_id = max(0, request.start_socket_id)
        if not 0 < request.max_results <= MAX_RESULTS:
            request.max_results = MAX_RESULTS
        return await _answer(ChannelzServicer.GetServerSockets, request, rpc)

    async def GetChannel(  # noqa: N802  # gRPC's own name of the method
        self, _request: GetChannelRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Abort with NOT_FOUND, as no channel is shown."""
        await rpc.abort(grpc.StatusCode.NOT_FOUND)

    async def GetSubchannel(  # noqa: N802  # gRPC's own name of the method
        self, _request: GetSubchannelRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Abort with NOT_FOUND, as no channel is shown."""
        await rpc.abort(grpc.StatusCode.NOT_FOUND)

    async def GetSocket(  # noqa: N802  # gRPC's own name of the method
        self, request: GetSocketRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return one connection of a server; abort with NOT_FOUND for any other id."""
        if not _is_of_server(request.socket_id):
            await rpc.abort(grpc.StatusCode.NOT_FOUND)
        return await _answer(ChannelzServicer.GetSocket, request, rpc)


def _is_of_server(socket_id: int) -> bool:
    """Return whether a socket is one of a server: a connection, or one that listens."""
    for server in _servers() if socket_id > 0 else ():
        if any(socket_id == each.socket_id for each in server.listen_socket):
            return True
        request = GetServerSocketsRequest(
            server_id=server.ref.server_id, start_socket_id=socket_id, max_results=1
        )
        page = ChannelzServicer.GetServerSockets(request, outcome := _Outcome())
        if outcome.code is grpc.StatusCode.OK and any(
            socket_id == each.socket_id for each in page.socket_ref
        ):
            return True
    return False


def _servers() -> Iterator[Any]:
    """Return the servers of the process."""
    request = GetServersRequest()
    while True:
        page = ChannelzServicer.GetServers(request, _Outcome())
        yield from page.server
        if page.end or not page.server:
            return
        request.start_server_id = page.server[-1].ref.server_id + 1


class _Outcome:
    """Takes the status that the package's servicer sets when it fails."""

    code = grpc.StatusCode.OK

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, _text: str) -> None:
        """Drop the text, which is gRPC's own."""


async def _answer(
    read: Callable[[Any, Any], Any], request: Any, rpc: ServicerContext[Any, Any]
) -> Any:
    """Return the servicer's answer; abort with its status if it has none."""
    outcome = _Outcome()
    answer = read(request, outcome)
    if outcome.code is not grpc.StatusCode.OK:
        await rpc.abort(outcome.code)
    return answer
