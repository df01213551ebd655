"""Channelz: not there unless it is configured, guarded by rules, and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2 as channelz
from grpc_channelz.v1.channelz import ChannelzServicer
from grpc_channelz.v1.channelz_pb2_grpc import ChannelzStub

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.services.channelz import MAX_RESULTS
from healthomics_gateway.services.names import CHANNELZ
from testkit.builders import aws_at, gateway, refused
from testkit.callers import LIMS, OTHER, bearing, called, rule, token

NOWHERE = "http://127.0.0.1:9"  # no request is sent to it
OPEN = {"GATEWAY_OPEN_SERVICES": "Health,Reflection,Channelz"}
FAR = 2**62  # an id that nothing has


@asynccontextmanager
async def channelz_of(served: Gateway) -> AsyncIterator[Any]:
    """Open a connection to a gateway's Channelz service."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(str(served.address), own) as channel:
        yield ChannelzStub(channel)


async def newest_server(stub: Any) -> int:
    """Return the id of the process's newest server, from as many pages as there are."""
    start = 0
    while True:
        request = channelz.GetServersRequest(start_server_id=start)
        page = await stub.GetServers(request)
        newest: int = max(each.ref.server_id for each in page.server)
        if page.end:
            return newest
        start = newest + 1


async def test_channelz_shows_servers_and_their_connections() -> None:
    """As grpcdebug does: list the servers, one server, its sockets, and a socket."""
    async with gateway(aws_at(NOWHERE), **OPEN) as served, channelz_of(served) as stub:
        server_id = await newest_server(stub)
        one = await stub.GetServer(channelz.GetServerRequest(server_id=server_id))
        sockets = await stub.GetServerSockets(
            channelz.GetServerSocketsRequest(server_id=server_id)
        )
        # Another one may be the gateway's own, which tries whether it is alive.
        found = [
            await stub.GetSocket(channelz.GetSocketRequest(socket_id=each.socket_id))
            for each in sockets.socket_ref
        ]

    assert server_id == one.server.ref.server_id
    assert one.server.data.calls_started
    assert sockets.end
    assert all("127.0.0.1" in each.name for each in sockets.socket_ref)
    assert any(each.socket.data.streams_started for each in found)


async def test_sockets_of_an_answer_are_bounded() -> None:
    """However many a client asks for, an answer has at most 100; the rest follow."""
    async with (
        gateway(aws_at(NOWHERE), **OPEN) as served,
        AsyncExitStack() as stack,
    ):
        stubs = [
            await stack.enter_async_context(channelz_of(served))
            for _ in range(MAX_RESULTS + 2)
        ]
        server_id = max([await newest_server(stub) for stub in stubs])
        request = channelz.GetServerSocketsRequest(server_id=server_id)
        pages = []
        for request.max_results in (0, -1, 10**9, 3):
            page = await stubs[0].GetServerSockets(request)
            pages.append((len(page.socket_ref), page.end))
        request.start_socket_id = 1 + max(
            each.socket_id
            for each in (await stubs[0].GetServerSockets(request)).socket_ref
        )
        request.max_results = 0
        rest = await stubs[0].GetServerSockets(request)

    assert [(MAX_RESULTS, False)] * 3 == pages[:3]
    assert (3, False) == pages[3]
    assert rest.end
    # One more may be the gateway's own, which tries whether it is alive.
    assert len(rest.socket_ref) - (len(stubs) - 3) in (0, 1)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetServer", channelz.GetServerRequest(server_id=FAR)),
        ("GetServer", channelz.GetServerRequest(server_id=-1)),
        ("GetServerSockets", channelz.GetServerSocketsRequest(server_id=FAR)),
        ("GetSocket", channelz.GetSocketRequest(socket_id=FAR)),
        ("GetChannel", channelz.GetChannelRequest(channel_id=FAR)),
        ("GetSubchannel", channelz.GetSubchannelRequest(subchannel_id=FAR)),
    ],
)
async def test_unknown_id_is_not_found(method: str, request_: Any) -> None:
    """An id that nothing has is NOT_FOUND, without gRPC's own text."""
    async with gateway(aws_at(NOWHERE), **OPEN) as served, channelz_of(served) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, method)(request_, timeout=10)

    assert (grpc.StatusCode.NOT_FOUND, "") == (
        caught.value.code(),
        caught.value.details(),
    )


async def test_channels_of_the_process_are_not_shown() -> None:
    """Callers don't see where traces are sent: neither channels nor their sockets."""
    async with gateway(aws_at(NOWHERE), **OPEN) as served, channelz_of(served) as stub:
        listed = await stub.GetTopChannels(channelz.GetTopChannelsRequest(), timeout=10)
        channels = ChannelzServicer.GetTopChannels(
            channelz.GetTopChannelsRequest(), None
        ).channel
        (channel, *_) = (each for each in channels if each.subchannel_ref)
        (of_channel,) = channel.subchannel_ref
        subchannel = ChannelzServicer.GetSubchannel(
            channelz.GetSubchannelRequest(subchannel_id=of_channel.subchannel_id), None
        ).subchannel
        (socket,) = subchannel.socket_ref
        codes = []
        for call in (
            stub.GetChannel(
                channelz.GetChannelRequest(channel_id=channel.ref.channel_id)
            ),
            stub.GetSubchannel(
                channelz.GetSubchannelRequest(subchannel_id=of_channel.subchannel_id)
            ),
            stub.GetSocket(channelz.GetSocketRequest(socket_id=socket.socket_id)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            codes.append(caught.value.code())

    assert (0, True) == (len(listed.channel), listed.end)
    assert [grpc.StatusCode.NOT_FOUND] * 3 == codes


async def test_socket_that_listens_is_shown() -> None:
    """It is one of the server's."""
    async with gateway(aws_at(NOWHERE), **OPEN) as served, channelz_of(served) as stub:
        request = channelz.GetServerRequest(server_id=await newest_server(stub))
        (listening, *_) = (await stub.GetServer(request)).server.listen_socket
        found = await stub.GetSocket(
            channelz.GetSocketRequest(socket_id=listening.socket_id)
        )

    assert listening == found.socket.ref


@pytest.mark.guarantee("channelz")
async def test_channelz_is_not_there_by_default() -> None:
    """Unless `open_services` or a rule names it, no such method exists."""
    async with gateway(aws_at(NOWHERE)) as served, channelz_of(served) as stub:
        call = stub.GetServers(channelz.GetServersRequest(), timeout=10)
        failure = await refused(call)

    assert "METHOD_UNKNOWN" == failure.reason


async def test_channelz_needs_a_rule_unless_it_is_open(tmp_path: Path) -> None:
    """A rule that names Channelz allows its callers, and nobody else."""
    rules = rule(OTHER), rule(LIMS, methods=["Channelz"])
    async with called(tmp_path, *rules) as c, channelz_of(c.served) as stub:
        ask = channelz.GetServersRequest()
        found = await stub.GetServers(ask, timeout=10, metadata=bearing(token(LIMS)))
        other = await refused(
            stub.GetServers(ask, timeout=10, metadata=bearing(token(OTHER)))
        )
        anonymous = await refused(stub.GetServers(ask, timeout=10))

    assert found.server
    assert ["CALLER_NOT_AUTHORIZED", "TOKEN_MISSING"] == [
        other.reason,
        anonymous.reason,
    ]


async def test_listener_serves_channelz_only_if_it_lists_it(tmp_path: Path) -> None:
    """`services` of a listener decides, as for the other services."""
    listeners = "".join(
        f'[[listeners]]\naddress = "unix:{tmp_path}/{name}"\nservices = [{services}]\n'
        for name, services in (("with", '"Channelz"'), ("without", '"Health"'))
    )
    found = []
    async with gateway(aws_at(NOWHERE), toml=listeners) as served:
        for address in served.addresses[1:]:
            async with grpc.aio.insecure_channel(str(address)) as channel:
                call = ChannelzStub(channel).GetServers(channelz.GetServersRequest())
                try:
                    found.append(bool((await call).server))
                except grpc.aio.AioRpcError as error:
                    found.append(error.code() is grpc.StatusCode.UNIMPLEMENTED)

    assert [True, True] == found


def test_channelz_has_its_standard_name() -> None:
    """Clients such as grpcdebug call it by this name."""
    assert "grpc.channelz.v1.Channelz" == CHANNELZ
