"""Every error that the gateway can return, and its gRPC status."""
