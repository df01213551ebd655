"""Everything that knows AWS: credentials, signing, HTTP, translation and errors.

`healthomics` is the source that makes one attempt: `sigv4` signs it with the
credentials of a `provider`, `transport` sends it, `translate` reads the answer, and
`classify` turns a failure into an error. `roles` selects the provider: the gateway's
own, or that of a role, whose sessions `sts` requests. `config` finds Region, endpoints
and credentials.
"""
