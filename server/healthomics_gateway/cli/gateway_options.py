"""The options of `get` and `watch` for the connection to a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from healthomics_gateway.cli.usage import ADDRESS

PREFIX = "HEALTHOMICS_GATEWAY_"  # of the environment variable of each option
OF_TLS = ("tls_ca", "tls_cert", "tls_key", "server_name")  # each implies TLS
OPTIONS: Mapping[str, tuple[str | None, str]] = {  # by name: metavar and help
    "address": ("ADDRESS", f"HOST:PORT or unix:/PATH (default: {ADDRESS})"),
    "tls": (None, "connect over TLS, and trust the authorities that gRPC ships"),
    "tls_ca": ("FILE", "trust only these authorities, PEM; implies --tls"),
    "tls_cert": ("FILE", "the client's certificate chain, PEM; implies --tls"),
    "tls_key": ("FILE", "the key of that certificate, PEM"),
    "server_name": ("NAME", "name that its certificate must have; implies --tls"),
    "token_file": ("FILE", "file of the JWT to send, read again for each call"),
}


def flag_of(name: str) -> str:
    """Return the flag of an option."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + name.upper()


@dataclass(frozen=True, slots=True)
class OptionValue:
    """The text of an option."""

    source: str  # the flag or variable that set it
    text: str


def read_options(
    flags: Mapping[str, str | None], environ: Mapping[str, str], faults: list[str]
) -> dict[str, OptionValue]:
    """Return the options that are set, by name; append what is wrong to `faults`.

    A flag overrides the variable of the same option.
    """
    given = {}
    for name in OPTIONS:
        flag, variable = flag_of(name), variable_of(name)
        text = flags.get(name)
        if text:
            given[name] = OptionValue(flag, text)
        elif text is not None:
            faults.append(f"{flag}: it is empty; write a value, or leave it out")
        elif environ.get(variable):
            given[name] = OptionValue(variable, environ[variable])
        elif variable in environ:
            # Perhaps it was meant to turn TLS on.
            faults.append(f"{variable}: it is empty; unset it")
    unprintable = [
        given.pop(name).source
        for name in ("address", "server_name")
        if name in given and not given[name].text.isprintable()
    ]
    faults += [f"{source}: write printable characters" for source in unprintable]
    return given
