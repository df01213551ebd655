"""Decides whether calls are traced, by the standard variables OTEL_*."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from healthomics_gateway.telemetry.spans import Tracer
from healthomics_gateway.telemetry.tracing_variables import (
    DISABLED,
    PROPAGATORS,
    as_environ,
    faults,
    given,
)

EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTLP = "otlp"
DEFAULT_PROTOCOL = "http/protobuf"  # of OpenTelemetry's specification
SUPPORTED = (DEFAULT_PROTOCOL, "grpc")

_log = structlog.get_logger("tracing")


class TracingError(Exception):
    """Why calls can't be traced, with what to do about it."""


def exporter_variable(environ: Mapping[str, str]) -> str | None:
    """Return the variable that asks for traces, or None.

    It is `OTEL_TRACES_EXPORTER` if that contains `otlp`, or that of an endpoint if
    there is no `OTEL_TRACES_EXPORTER`. Unlike OpenTelemetry's own default, nothing is
    exported without either.
    """
    if environ.get(DISABLED, "").strip().lower() == "true":
        return None
    names = [each.strip() for each in environ.get(EXPORTER, "").split(",")]
    if any(names):
        return EXPORTER if OTLP in names else None
    return next((each for each in ENDPOINTS if environ.get(each, "").strip()), None)


def make_tracer(environ: Mapping[str, str]) -> Tracer:
    """Create the tracer that the variables describe; raises TracingError.

    The error names the variables that are invalid, but has no value.
    """
    variables = given(environ)
    of_protocol = next((each for each in PROTOCOLS if each in variables), None)
    protocol = variables[of_protocol] if of_protocol else DEFAULT_PROTOCOL
    if protocol not in SUPPORTED:
        raise TracingError(f"{of_protocol} must be one of {', '.join(SUPPORTED)}")
    if found := faults(variables, protocol):
        raise TracingError("; ".join(found))
    try:
        with as_environ(variables):
            return _tracer(variables, protocol)
    except ImportError:
        why = "the extra otel isn't installed: install it as docs/guide/tracing.md says"
        raise TracingError(why) from None


def _tracer(variables: Mapping[str, str], protocol: str) -> Tracer:
    from healthomics_gateway.telemetry.otlp import (  # noqa: PLC0415  # an extra, and slow
        UnknownPropagatorError,
        make_exporting_tracer,
    )

    try:
        return make_exporting_tracer(variables, protocol)
    except UnknownPropagatorError:
        why = f"{PROPAGATORS} must have names of propagators that are installed"
        raise TracingError(why) from None
    except ImportError:
        raise
    except Exception as error:  # OpenTelemetry raises many kinds
        what = f"{type(error).__name__} while OpenTelemetry is set up"
        raise TracingError(f"{what}: check {', '.join(sorted(variables))}") from error


def set_up_tracing(environ: Mapping[str, str]) -> Tracer | None:
    """Return the tracer that the variables ask for, or None.

    It is also None if they can't be followed, and the event `tracing_unavailable` says
    why: the gateway serves without traces then.
    """
    if exporter_variable(environ) is None:
        return None
    try:
        return make_tracer(environ)
    except TracingError as error:
        _log.warning("tracing_unavailable", why=str(error))
        return None
