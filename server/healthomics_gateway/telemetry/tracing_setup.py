"""Decides whether calls are traced, by the standard variables OTEL_*."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from healthomics_gateway.telemetry.spans import Tracer

DISABLED = "OTEL_SDK_DISABLED"
EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTLP = "otlp"
DEFAULT_PROTOCOL = "http/protobuf"  # of OpenTelemetry's specification

_log = structlog.get_logger("tracing")


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Return whether the variables ask for traces.

    They do if `OTEL_TRACES_EXPORTER` is `otlp`, or if it isn't set and there is an
    endpoint. Unlike OpenTelemetry's own default, nothing is exported without either.
    """
    if environ.get(DISABLED, "").strip().lower() == "true":
        return False
    names = [each.strip() for each in environ.get(EXPORTER, "").split(",")]
    exporters = [each for each in names if each]
    if exporters:
        return OTLP in exporters
    return any(environ.get(each, "").strip() for each in ENDPOINTS)


def set_up_tracing(environ: Mapping[str, str]) -> Tracer | None:
    """Return the tracing that the variables ask for, or None.

    It is None, and the event `tracing_unavailable` says why, if the extra `otel` isn't
    installed or a variable is invalid: the gateway serves without traces then.
    """
    if not is_asked_for(environ):
        return None
    protocols = (environ.get(each, "").strip() for each in PROTOCOLS)
    protocol = next(filter(None, protocols), DEFAULT_PROTOCOL)
    try:
        from healthomics_gateway.telemetry.otlp import (  # noqa: PLC0415  # an extra, and slow
            EXPORTERS,
            exported,
        )

        if protocol in EXPORTERS:
            return exported(protocol)
        why = f"the protocol isn't one of {', '.join(EXPORTERS)}"
    except ImportError:
        why = "the extra otel isn't installed: pip install 'healthomics-gateway[otel]'"
    except Exception as error:  # noqa: BLE001  # OpenTelemetry raises many kinds
        why = f"{type(error).__name__}: check the variables OTEL_*"
    _log.warning("tracing_unavailable", why=why)
    return None
