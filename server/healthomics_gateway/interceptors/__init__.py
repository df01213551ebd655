"""What every call passes through, outermost first: observe, errors, drain.

`chain` is the one grpc interceptor; it composes the concerns once per method.
"""
