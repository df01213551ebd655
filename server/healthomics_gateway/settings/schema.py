"""The schema of the settings: the type, range and default of each."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from healthomics_gateway.net.addresses import Address
from healthomics_gateway.settings.value_types import (
    Duration,
    File,
    Listen,
    MaybeText,
    Members,
    Mode,
    NotEmpty,
    Number,
    Pattern,
    Role,
    RunGroups,
    Secret,
    SecretUrl,
    Switch,
    Tcp,
    Text,
    Whole,
    Workers,
    at_most,
    within,
    words,
)
from healthomics_gateway.tls.files import ClientAuth

# Only asymmetric signatures: with HMAC, the verifier of tokens could also sign them.
Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
# The standard services of gRPC: the whole service in rules, too.
StandardService = Literal["Health", "Reflection", "Channelz"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Log(_Section):
    """The log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Errors(_Section):
    """The details of errors."""

    debug: Switch = False


class Upstream(_Section):
    """Requests to HealthOmics."""

    attempt_timeout: Annotated[Duration, within("100ms", "2m")] = timedelta(seconds=10)
    connect_timeout: Annotated[Duration, within("100ms", "2m")] = timedelta(seconds=3)
    max_attempts: Annotated[Whole, Field(ge=1, le=3)] = 3
    max_concurrent: Annotated[Whole, Field(ge=1, le=1024)] = 64
    max_body_bytes: Annotated[Whole, Field(ge=1024, le=16_777_216)] = 1_048_576


class Quota(_Section):
    """The share of the account's quota that the gateway may use."""

    tps: Annotated[Number, Field(ge=0.5, le=10_000)] = 8.0
    burst: Annotated[Number, Field(ge=1, le=10_000)] = 2.0


class Cache(_Section):
    """The cache of answers."""

    max_staleness: Annotated[Duration, within("0s", "1h")] = timedelta(0)
    max_staleness_limit: Annotated[Duration, within("0s", "1h")] = timedelta(minutes=1)
    max_bytes: Annotated[Whole, Field(ge=0, le=1_073_741_824)] = 67_108_864


class Watch(_Section):
    """Watches of runs."""

    interval: Annotated[Duration, within("10ms", "1h")] = timedelta(seconds=5)
    min_interval: Annotated[Duration, within("10ms", "1h")] = timedelta(seconds=1)
    max_stream: Annotated[Duration, within("100ms", "1h")] = timedelta(minutes=10)
    quota_share: Annotated[Number, Field(ge=0.01, le=1)] = 0.5
    max_open: Annotated[Whole, Field(ge=1, le=100_000)] = 10_000


def _client_auth(value: Any) -> Any:
    if value == "optional":
        raise ValueError(
            'write "required", and add an address for callers without a certificate:'
            ' [[listeners]] with an address and client_auth = "none"'
        )
    return value


_ClientAuth = Annotated[ClientAuth, BeforeValidator(_client_auth)]


class Tls(_Section):
    """The server certificate, and the authorities of client certificates."""

    cert_file: File = None
    key_file: File = None
    client_ca_file: File = None
    client_auth: _ClientAuth = "none"
    insecure: Switch = False


class ListenerTable(_Section):
    """An additional address; a key that isn't set has the value for `listen`."""

    address: Listen
    client_auth: _ClientAuth | None = None
    cert_file: File = None
    key_file: File = None
    services: (
        Annotated[
            frozenset[Literal["RunService", StandardService]],
            NotEmpty,
        ]
        | None
    ) = None
    identity: MaybeText = None
    mode: Mode | None = None


class Jwt(_Section):
    """The issuer of the tokens that prove identities."""

    issuer: MaybeText = None
    audience: Annotated[
        frozenset[str], NoDecode, words("audiences", "healthomics-gateway"), NotEmpty
    ] = frozenset()
    algorithms: Annotated[
        frozenset[Algorithm], NoDecode, words("algorithms", "RS256"), NotEmpty
    ] = frozenset({"ES256", "RS256"})
    jwks_url: MaybeText = None
    jwks_file: File = None
    ca_file: File = None
    jwks_token_file: File = None
    identity_claim: Text = "sub"
    audience_claim: Text = "aud"
    leeway: Annotated[Duration, within("0s", "5m")] = timedelta(seconds=30)

    @property
    def is_on(self) -> bool:
        """Return whether tokens are verified."""
        return bool(self.jwks_url or self.jwks_file)


class CallerRule(_Section):
    """The methods, runs and rates that the callers of an identity may use."""

    identity: Pattern
    methods: frozenset[Literal["GetRun", "WatchRun", StandardService]] = frozenset(
        {"GetRun", "WatchRun"}
    )
    run_groups: Annotated[RunGroups, NotEmpty] | None = None
    tags: Annotated[dict[str, str], NotEmpty] = {}
    withhold: Members = frozenset()
    calls_per_second: Annotated[Number, Field(ge=0.01, le=100_000)] | None = None
    concurrent_calls: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    watches: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    aws_role: Role = None


class Shared(_Section):
    """The store that the replicas of a gateway share."""

    url: SecretUrl = None
    secret: Secret = None
    replicas: Annotated[Whole, Field(ge=1, le=1000)] = 1


class Statusz(_Section):
    """The status page, and the labels of rules in the metrics."""

    identities: Switch = True


class Settings(BaseSettings):
    """All settings, valid."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: Listen = Address("127.0.0.1", 50051)
    admin_listen: Tcp = Address("127.0.0.1", 9464)
    workers: Workers = 1
    default_deadline: Annotated[Duration, within("100ms", "1h")] = timedelta(seconds=30)
    max_deadline: Annotated[Duration, within("100ms", "1h")] = timedelta(minutes=5)
    drain_time: Annotated[Duration, within("0s", "10m")] = timedelta(seconds=25)
    max_in_flight: Annotated[Whole, Field(ge=1, le=65_536)] = 8192
    withhold: Members = frozenset()
    # If it isn't set, only Health is open on addresses that other machines can reach.
    open_services: Annotated[
        frozenset[StandardService],
        NoDecode,
        words("services", "Health"),
    ] = frozenset({"Health", "Reflection"})
    log: Log = Log()
    errors: Errors = Errors()
    upstream: Upstream = Upstream()
    quota: Quota = Quota()
    cache: Cache = Cache()
    watch: Watch = Watch()
    tls: Tls = Tls()
    jwt: Jwt = Jwt()
    shared: Shared = Shared()
    statusz: Statusz = Statusz()
    listeners: Annotated[tuple[ListenerTable, ...], NotEmpty, at_most(1000)] = ()
    callers: Annotated[tuple[CallerRule, ...], NotEmpty, at_most(10_000)] = ()

    @classmethod
    def settings_customise_sources(cls, *_args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Take the values only from `load`, which has read all sources."""
        return (kwargs["init_settings"],)
