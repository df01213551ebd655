"""The gRPC services: their full names, and their names in settings and rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health

from healthomics.v1 import run_service_pb2

RUN_SERVICE = run_service_pb2.DESCRIPTOR.services_by_name["RunService"].full_name
HEALTH = health.SERVICE_NAME
CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

# The standard services of gRPC; the settings have one name for both versions.
STANDARD: Mapping[str, str] = {
    HEALTH: "Health",
    REFLECTION_V1: "Reflection",
    REFLECTION_V1ALPHA: "Reflection",
    CHANNELZ: "Channelz",
}
SERVICES: Mapping[str, str] = {RUN_SERVICE: "RunService", **STANDARD}


def full_names(names: Iterable[str]) -> list[str]:
    """Return the full names of services, by their names in the settings."""
    named = frozenset(names)
    return [full for full, name in SERVICES.items() if name in named]
