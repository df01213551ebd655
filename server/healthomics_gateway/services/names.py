"""The full names of the gRPC services."""

from __future__ import annotations

from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health

from healthomics.v1 import run_service_pb2

RUN_SERVICE = run_service_pb2.DESCRIPTOR.services_by_name["RunService"].full_name
HEALTH = health.SERVICE_NAME
CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
