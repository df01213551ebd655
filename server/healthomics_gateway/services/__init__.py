"""The gRPC services: RunService, health and reflection."""
