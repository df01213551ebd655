"""The interceptors that every call passes, one module for each concern.

From the outside in: `audit`, `status`, `tarpit`, `authenticate`, `authorize`,
`caller_limits`, `concurrency`, `send_buffer`, `drain`. `chain` is the one interceptor
that grpc knows, and composes the others once per method.
"""
