"""Checks the variables OTEL_* before OpenTelemetry reads them.

OpenTelemetry itself uses a default instead of most invalid values, and logs some of
them. A fault that is returned here never has a value, which can be a secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from healthomics_gateway.telemetry.tracing_values import (
    ATTRIBUTES,
    AUTHORITIES,
    BASE_URL,
    BOOLEAN,
    GRPC_HEADERS,
    HEADERS,
    LIMIT,
    POSITIVE,
    SECONDS,
    SHARE,
    TARGET,
    URL,
    Rule,
    address,
    has_key,
    one_of,
)

PREFIX = "OTEL_"
OF_TRACES, OF_ALL = "OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"
DISABLED = "OTEL_SDK_DISABLED"
QUEUE, BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
DEFAULT_SIZES = {QUEUE: 2048, BATCH: 512}  # of OpenTelemetry's specification
PROPAGATORS = "OTEL_PROPAGATORS"
SAMPLER, SAMPLER_ARG = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
RATIO = "traceidratio"
SAMPLERS = frozenset(
    prefix + each
    for prefix in ("", "parentbased_")
    for each in ("always_on", "always_off", RATIO)
)
GRPC = "grpc"  # a protocol
DEFAULT_ADDRESSES = {GRPC: "localhost:4317"}
DEFAULT_ADDRESS = "localhost:4318"  # of the other protocols

RULES: Mapping[str, Rule] = {
    DISABLED: BOOLEAN,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": BOOLEAN,
    "OTEL_RESOURCE_ATTRIBUTES": ATTRIBUTES,
    SAMPLER: one_of(SAMPLERS),
    QUEUE: POSITIVE,
    BATCH: POSITIVE,
    "OTEL_BSP_SCHEDULE_DELAY": POSITIVE,
    "OTEL_BSP_EXPORT_TIMEOUT": LIMIT,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMIT,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": LIMIT,
    "OTEL_SPAN_LINK_COUNT_LIMIT": LIMIT,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMIT,
}
# By the end of the name: the variable for traces comes before that for all signals.
EXPORTER_RULES: Mapping[str, Rule] = {
    "ENDPOINT": BASE_URL,
    "HEADERS": HEADERS,
    "TIMEOUT": SECONDS,
    "COMPRESSION": one_of(frozenset({"none", "gzip", "deflate"})),
    "CERTIFICATE": AUTHORITIES,
    "INSECURE": BOOLEAN,
}
GRPC_RULES: Mapping[str, Rule] = {
    "ENDPOINT": TARGET,
    "HEADERS": GRPC_HEADERS,
    "COMPRESSION": one_of(frozenset({"gzip"})),
}


def given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables OTEL_* that aren't blank, without spaces around them.

    By OpenTelemetry's specification a blank variable is as good as none.
    """
    return {
        name: value.strip()
        for name, value in environ.items()
        if name.startswith(PREFIX) and value.strip()
    }


@contextmanager
def as_environ(variables: Mapping[str, str]) -> Iterator[None]:
    """Make these the process's variables OTEL_*, which OpenTelemetry reads."""
    before = {name: os.environ[name] for name in os.environ if name.startswith(PREFIX)}
    _replace(before, variables)
    try:
        yield
    finally:
        _replace(variables, before)


def of_exporter(variables: Mapping[str, str], option: str) -> str | None:
    """Return the variable that has an option of the exporter, or None."""
    names = OF_TRACES + option, OF_ALL + option
    return next((each for each in names if each in variables), None)


def collector(variables: Mapping[str, str], protocol: str) -> str:
    """Return the host and port of the collector, or nothing if they aren't known."""
    name = of_exporter(variables, "ENDPOINT")
    if name is None:
        return DEFAULT_ADDRESSES.get(protocol, DEFAULT_ADDRESS)
    return address(variables[name])


def faults(variables: Mapping[str, str], protocol: str) -> list[str]:
    """Return what the variables that are invalid must be."""
    found = [
        f"{name} must be {rule.must_be}"
        for name, rule in _rules(variables, protocol)
        if not rule.holds(variables[name])
    ]
    return found or [*_faults_of_sizes(variables), *_faults_of_client(variables)]


def _rules(variables: Mapping[str, str], protocol: str) -> Iterator[tuple[str, Rule]]:
    """Return the variables that have an effect, and their rules."""
    yield from ((name, rule) for name, rule in RULES.items() if name in variables)
    if SAMPLER_ARG in variables and variables.get(SAMPLER, "").lower().endswith(RATIO):
        yield SAMPLER_ARG, SHARE
    own = GRPC_RULES if protocol == GRPC else {}
    for option, rule in {**EXPORTER_RULES, **own}.items():
        if name := of_exporter(variables, option):
            is_complete = rule is BASE_URL and name.startswith(OF_TRACES)
            yield name, URL if is_complete else rule


def _faults_of_sizes(variables: Mapping[str, str]) -> Iterator[str]:
    sizes = {name: int(variables.get(name, n)) for name, n in DEFAULT_SIZES.items()}
    if sizes[BATCH] > sizes[QUEUE]:
        queue, batch = (f"{name} ({n} if unset)" for name, n in DEFAULT_SIZES.items())
        yield f"{batch} must be at most {queue}"


def _faults_of_client(variables: Mapping[str, str]) -> Iterator[str]:
    certificate = of_exporter(variables, "CLIENT_CERTIFICATE")
    key = of_exporter(variables, "CLIENT_KEY")
    if certificate is None:
        if key:
            yield f"{key} must have a certificate beside it: {OF_ALL}CLIENT_CERTIFICATE"
    elif not has_key(variables[certificate], variables[key] if key else None):
        names = f"{certificate} and {key}" if key else certificate
        yield f"{names} must be a certificate and its key, in PEM without a password"


def _replace(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for name in old.keys() - new.keys():
        del os.environ[name]
    for name, value in new.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
