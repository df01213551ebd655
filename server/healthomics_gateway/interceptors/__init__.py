"""What every call passes through, a file for each concern.

From the outside in: `audit`, `errors`, `refuse`, `admit`, `authenticate`,
`authorize`, `limit`, `unread`, `drain`. `chain` is the one grpc interceptor, which
composes them once per method.
"""
