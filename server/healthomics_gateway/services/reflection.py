"""gRPC's server reflection, v1 and v1alpha, for clients without the proto files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.rpc import error_details_pb2, status_pb2
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from healthomics.v1 import error_reason_pb2, run_service_pb2
from healthomics_gateway.services.names import REFLECTION_V1

# No method has their types.
ERRORS = (error_reason_pb2, error_details_pb2, status_pb2)


def add_reflection(server: grpc.aio.Server, *, services: Sequence[str]) -> None:
    """Add reflection, v1 and v1alpha, whose messages have the same encoding.

    `services` are the full names of the server's services.
    """
    servicer = reflection_aio.ReflectionServicer(
        services, Symbols(served_descriptors())
    )
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]  # has no type in the stubs
        servicer, server
    )
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler(
        REFLECTION_V1, {"ServerReflectionInfo": handler}
    )
    server.add_generic_rpc_handlers((generic,))


class Symbols:
    """A descriptor pool that finds methods by name too.

    The pool of protobuf 6 and 7 finds services, but not their methods.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        """Wrap `pool`."""
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the pool itself."""
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802  # protobuf's own name
        """Return the file that defines `symbol`; raise KeyError if there is none."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, method = symbol.rpartition(".")
            service = self._pool.FindServiceByName(parent)
            if method not in service.methods_by_name:
                raise
            return service.file


def methods_of(services: Iterable[str]) -> Iterator[tuple[str, bool, bool]]:
    """Yield the path of each method, and whether its requests and responses stream."""
    for name in services:
        for method in served_descriptors().FindServiceByName(name).methods:
            path = f"/{name}/{method.name}"
            yield path, method.client_streaming, method.server_streaming


@cache  # once per process: other servers have the same services
def served_descriptors() -> descriptor_pool.DescriptorPool:
    """Return a pool of the files of all services and errors.

    Its fields have their JSON names, which the default pool leaves out: grpcurl and
    others print a message by these.
    """
    pool = descriptor_pool.DescriptorPool()
    for file in (
        run_service_pb2.DESCRIPTOR,
        health_pb2.DESCRIPTOR,
        channelz_pb2.DESCRIPTOR,
        *(each.DESCRIPTOR for each in ERRORS),
        reflection_pb2.DESCRIPTOR,
    ):
        _add(file, pool)
    v1alpha = FileDescriptorProto()  # the package has no v1
    pool.FindFileByName(reflection_pb2.DESCRIPTOR.name).CopyToProto(v1alpha)
    text = text_format.MessageToString(v1alpha).replace("v1alpha", "v1")
    pool.Add(text_format.Parse(text, FileDescriptorProto()))
    return pool


def _add(file: FileDescriptor, pool: descriptor_pool.DescriptorPool) -> None:
    """Add a file to a pool, after the files that it imports."""
    for each in file.dependencies:
        _add(each, pool)
    pool.Add(_with_json_names(file))


def _with_json_names(file: FileDescriptor) -> FileDescriptorProto:
    described = FileDescriptorProto()
    file.CopyToProto(described)
    _set_json_names(described.message_type, file.message_types_by_name)
    return described


def _set_json_names(
    messages: Iterable[DescriptorProto], by_name: Mapping[str, Descriptor]
) -> None:
    for message in messages:
        descriptor = by_name[message.name]
        for field in message.field:
            field.json_name = descriptor.fields_by_name[field.name].json_name
        _set_json_names(message.nested_type, descriptor.nested_types_by_name)
