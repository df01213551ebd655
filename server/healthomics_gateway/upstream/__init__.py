"""Everything that knows AWS: credentials, signing, HTTP, translation and errors.

`healthomics` is the source that makes one attempt: `sigv4` signs it with the
credentials of an `identity`, `transport` sends it, `translate` reads the answer, and
`classify` turns a failure into an error. `roles` selects the identity: the gateway's
own, or a session of a role, which `sts` requests. `config` finds Region, endpoints and
credentials.
"""
