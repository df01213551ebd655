"""The source that is HealthOmics: the only rooms that know AWS.

`healthomics` makes one attempt with what `identity` found on the machine and
`sigv4` signs; `translate` reads the answer, which `jsontext` parses; `classify`
reads a failure.
"""
