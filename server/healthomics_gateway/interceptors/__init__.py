"""The interceptors that every call passes, one module for each concern.

From the outside in: `audit`, `status`, `tarpit`, `authenticate`, `authorize`,
`caller_limits`, `concurrency`, `send_buffer`, `drain`. `credential_expiry` runs after
`authenticate`, for all methods but GetRun. `chain` is the one interceptor that grpc
knows: it composes the others once per method. Inside them `method_handlers` wait for
the request with `first_message`, call the method, and write the messages of streams
with `stream_writer`. `eviction` is the part that several of them use to end a call
early.
"""
