"""gRPC's Channelz service: the process's servers, their connections and counts."""

from __future__ import annotations

from collections.abc import Callable
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
)

MAX_RESULTS = 100  # sockets in one answer; gRPC limits servers and channels likewise


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
        self, request: GetTopChannelsRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return the channels of the process; the gateway has none but its probes'."""
        request.start_channel_id = max(0, request.start_channel_id)
        return await _answer(ChannelzServicer.GetTopChannels, request, rpc)

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
        self, request: GetChannelRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return one channel; abort with NOT_FOUND if there is none of this id."""
        return await _answer(ChannelzServicer.GetChannel, request, rpc)

    async def GetSubchannel(  # noqa: N802  # gRPC's own name of the method
        self, request: GetSubchannelRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return one subchannel; abort with NOT_FOUND if there is none of this id."""
        return await _answer(ChannelzServicer.GetSubchannel, request, rpc)

    async def GetSocket(  # noqa: N802  # gRPC's own name of the method
        self, request: GetSocketRequest, rpc: ServicerContext[Any, Any]
    ) -> Any:
        """Return one connection; abort with NOT_FOUND if there is none of this id."""
        return await _answer(ChannelzServicer.GetSocket, request, rpc)


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
