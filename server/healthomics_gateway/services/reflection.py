"""gRPC's server reflection, v1 and v1alpha, for clients without the proto files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from healthomics.v1 import error_reason_pb2
from healthomics_gateway.services.names import (
    HEALTH,
    REFLECTION_V1,
    REFLECTION_V1ALPHA,
    RUN_SERVICE,
)

# No method has their types, so they are imported to be in the descriptor pool.
ERRORS = (error_reason_pb2, error_details_pb2)


def add_reflection(
    server: grpc.aio.Server, *, beside: Sequence[str] = (RUN_SERVICE, HEALTH)
) -> None:
    """Add reflection, v1 and v1alpha, whose messages have the same encoding.

    `beside` are the names of the server's other services.
    """
    names = (*beside, REFLECTION_V1, REFLECTION_V1ALPHA)
    pool = descriptor_pool.Default()
    _describe_v1()
    servicer = reflection_aio.ReflectionServicer(names, Symbols(pool))
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


@cache  # once per process, as the default pool is
def _describe_v1() -> None:
    """Add v1 to the default pool, as the package has only v1alpha."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    described = text_format.Parse(text, FileDescriptorProto())
    descriptor_pool.Default().Add(described)
