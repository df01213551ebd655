"""Mutation testing of the modules whose unit tests are fast, with mutmut.

mutmut changes one expression of a module at a time and runs the unit tests that reach
it. A mutant that no test finds has survived: its difference is printed. Survivors don't
fail the run, as many are equivalent to the original. Ends with 1 if mutmut fails.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "mutation"
MUTMUT = Path(sys.executable).with_name("mutmut")
TESTS = {  # by module of the server, the unit tests that should find its mutants
    "app/file_limit": "app/test_file_limit",
    "app/gateway": "app/test_gateway",
    "app/listener": "app/test_listener",
    "app/listeners": "app/test_gateway",
    "app/process": "app/test_process",
    "auth/client_certificates": "auth/test_client_certificates",
    "auth/jwks": "auth/test_tokens",
    "auth/jwks_fetch": "auth/test_keyring",
    "auth/keyring": "auth/test_keyring",
    "auth/policy": "auth/test_policy",
    "auth/tokens": "auth/test_tokens",
    "cli/client": "cli/test_client",
    "cli/connection": "cli/test_connection",
    "cli/error_view": "cli/test_client",
    "cli/run_view": "cli/test_run_view",
    "context": "test_context interceptors/test_chain",
    "control": "test_control",
    "durations": "test_durations",
    "errors/exceptions": "errors/test_status",
    "errors/status": "errors/test_status",
    "files": "test_files",
    "interceptors/audit": "interceptors/test_chain",
    "interceptors/authenticate": "interceptors/test_chain",
    "interceptors/caller_limits": "interceptors/test_caller_limits",
    "interceptors/chain": "interceptors/test_chain",
    "interceptors/concurrency": "interceptors/test_concurrency",
    "interceptors/drain": "interceptors/test_drain",
    "interceptors/eviction": "interceptors/test_eviction",
    "interceptors/first_message": "interceptors/test_first_message",
    "interceptors/local_limits": "interceptors/test_caller_limits",
    "interceptors/method_handlers": "interceptors/test_chain",
    "interceptors/send_buffer": "interceptors/test_send_buffer",
    "interceptors/shared_counts": "interceptors/test_shared_counts",
    "interceptors/shared_rates": "interceptors/test_shared_rates",
    "interceptors/status": "interceptors/test_chain",
    "interceptors/tarpit": "interceptors/test_tarpit",
    "net/addresses": "net/test_addresses",
    "net/hosts": "app/test_listener",
    "net/proxies": "net/test_proxies",
    "pem": "tls/test_reloader",
    "runs/answer_values": "runs/test_answer_values",
    "runs/cache": "runs/test_cache",
    "runs/fairness": "runs/test_rate_limit",
    "runs/field_mask": "runs/test_field_mask",
    "runs/gate": "runs/test_scheduler runs/test_shared_quota",
    "runs/poll_failures": "runs/test_poll_failures runs/test_watch",
    "runs/quota": "runs/test_rate_limit runs/test_scheduler",
    "runs/rate_limit": "runs/test_rate_limit",
    "runs/releases": "runs/test_shared_watches",
    "runs/reservations": "runs/test_reservations runs/test_shared_quota",
    "runs/retry": "runs/test_retry",
    "runs/shared_answers": "runs/test_shared_answers",
    "runs/shared_quota": "runs/test_shared_quota",
    "runs/shared_watches": "runs/test_shared_watches",
    "runs/source": "runs/test_rate_limit runs/test_coalesce",
    "runs/watch": "runs/test_watch",
    "services/readiness": "services/test_health",
    "services/run_service": "services/test_run_service",
    "services/validation": "services/test_run_service",
    "settings/environment": "settings/test_environment settings/test_load",
    "settings/listener_settings": "settings/test_load",
    "settings/value_types": "settings/test_load",
    "shared/adaptive_rate": "shared/test_adaptive_rate",
    "shared/memory": "shared/test_memory",
    "shared/names": "shared/test_names",
    "shared/replica": "shared/test_replica",
    "shared/seal": "shared/test_seal",
    "telemetry/log_lines": "telemetry/test_log_lines",
    "telemetry/log_setup": "telemetry/test_log_setup",
    "telemetry/metrics/totals": "telemetry/metrics/test_totals",
    "tls/files": "tls/test_reloader",
    "tls/reloader": "tls/test_reloader",
    "token_bucket": "test_token_bucket",
    "upstream/classify": "upstream/test_classify",
    "upstream/clock": "upstream/test_healthomics",
    "upstream/credential_chain": "upstream/test_config",
    "upstream/credentials": "upstream/test_credentials",
    "upstream/exact_json": "upstream/test_exact_json",
    "upstream/fields": "upstream/test_fields upstream/test_translate",
    "upstream/healthomics": "upstream/test_healthomics upstream/test_roles",
    "upstream/roles": "upstream/test_roles",
    "upstream/sigv4": "upstream/test_sigv4",
    "upstream/sts": "upstream/test_roles",
    "upstream/translate": "upstream/test_translate",
    "upstream/transport": "upstream/test_transport upstream/test_healthomics",
    "workers/drain": "workers/test_drain",
    "workers/keeper": "workers/test_keeper",
    "workers/restarts": "workers/test_restarts",
}
SHORT = ("durations", "runs/poll_failures", "runs/retry", "upstream/clock")
_CONFIG = """\
[mutmut]
source_paths = src
also_copy = generated
process_isolation = forkserver
timeout_multiplier = 4.0
pytest_add_cli_args =
    --numprocesses=0
    --cache-clear
do_not_mutate_patterns = raise \\w+\\("
only_mutate =
    {modules}
pytest_add_cli_args_test_selection =
    {tests}
"""  # the text of an exception may change
_RESULT = re.compile(r"^ +healthomics_gateway\.(\S+)\.(x\S+): (.+)$", re.MULTILINE)


def main() -> int:
    """Run mutmut as the command line says and return the exit code."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument(
        "modules",
        nargs="*",
        metavar="module",
        help=f"one of {', '.join(TESTS)} (default: {', '.join(SHORT)})",
    )
    parser.add_argument("--all", action="store_true", help="test all these modules")
    parser.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 17),
        default=1,
        metavar="N",
        help="mutants tested at once, 1 to 16 (default 1)",
    )
    options = parser.parse_args()
    if unknown := set(options.modules) - set(TESTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    _prepare(list(TESTS) if options.all else options.modules or SHORT)
    if _mutmut("run", f"--max-children={options.jobs}").returncode:
        return 1
    results = _mutmut("results", "--all", "true", stdout=subprocess.PIPE).stdout
    _report(_RESULT.findall(results))
    return 0


def _prepare(modules: Sequence[str]) -> None:
    """Copy the sources and the tests to where mutmut expects them, and configure it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for source, target in (("server", "src"), ("generated",) * 2, ("tests",) * 2):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, FOLDER / target, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", FOLDER)
    files = [f"src/healthomics_gateway/{each}.py" for each in modules]
    tests = {test for each in modules for test in TESTS[each].split()}
    config = _CONFIG.format(
        modules="\n    ".join(files),
        tests="\n    ".join(f"tests/unit/{each}.py" for each in sorted(tests)),
    )
    (FOLDER / "setup.cfg").write_text(config)


def _mutmut(
    *arguments: str, stdout: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of mutmut in the folder."""
    return subprocess.run(
        (MUTMUT, *arguments), cwd=FOLDER, stdout=stdout, text=True, check=False
    )


def _report(results: Sequence[tuple[str, str, str]]) -> None:
    """Print the mutants that survived, and how many ended how in each module."""
    tallies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for module, name, status in results:
        tallies[module][status] += 1
        if status == "survived":
            _mutmut("show", f"healthomics_gateway.{module}.{name}")
    for module, tally in tallies.items():
        counts = ", ".join(f"{count} {status}" for status, count in tally.items())
        print(f"{module}: {counts}")  # noqa: T201  # output of a program


if __name__ == "__main__":
    sys.exit(main())
