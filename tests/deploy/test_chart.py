"""What the Helm chart renders, and that the gateway and Kubernetes accept it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from pydantic import BaseModel

from deploy.tools import (
    CHART,
    DEPLOY,
    FILE,
    INSECURE,
    NAME,
    ROOT,
    SECRET,
    STORE,
    VALUE_SETS,
    documents,
    file_of,
    helm,
    notes_of,
    pod_of,
    promtool,
    rendered,
    settings_of,
    template,
)
from healthomics_gateway.durations import duration_text
from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.reloading import RELOADED
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import names_in, remove_invalid
from healthomics_gateway.telemetry.tracing_setup import DEFAULT_PROTOCOL
from testkit.svid import Authority
from testkit.tools import require

TRACING = (ROOT / "docs" / "guide" / "tracing.md").read_text()
IDS = [each.name.removesuffix("-values.yaml") for each in VALUE_SETS]
EXAMPLES: Mapping[
    str, Any
] = {  # of settings whose default isn't a value, or doesn't fit
    "listen": "0.0.0.0:50051",
    "admin_listen": "0.0.0.0:9464",
    "listeners.address": "unix:/run/gateway.sock",
    "listeners.client_auth": "none",
    "listeners.mode": "0660",
    "listeners.services": ["Health"],
    "callers.identity": "lims",
    "callers.run_groups": ["1234567"],
    "callers.tags": {"project": "wgs"},
    "callers.calls_per_second": 2.5,
    "callers.concurrent_calls": 20,
    "callers.watches": 500,
    "callers.aws_role": "arn:aws:iam::123456789012:role/omics-read-lims",
}
OF_SECRETS = {
    "GATEWAY_SHARED__URL": "redis://:word@valkey.cache:6379",
    "GATEWAY_SHARED__SECRET": "a secret of more than 32 characters",
}
# A ConfigMap must not have them, so the chart has other values for them.
OF_THE_STORE = {"shared.url", "shared.secret"}
ODD = [
    "\\", '"', "'", "'''", '"""', "\\u0041", "{{ .Values }}", "true", "1", "# hash",
    "a\nb\r\nc\td", "\0\x07\x1b\x7f", "\x80\x85\x9f", "\u2028\u2029\ufeff", "€ä😀", " ",
]  # fmt: skip


def example(name: str, default: Any) -> Any:
    """Return a value of a setting, as it is written in a file."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if isinstance(default, timedelta):
        return duration_text(default)
    if isinstance(default, frozenset):
        return sorted(default) or ["something"]
    return "/a/file" if default is None else default


def examples(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Any]:
    """Return a value of each setting."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = prefix + name
        if inner in OF_THE_STORE:
            continue
        if inner in ("listeners", "callers"):
            (table, _) = field.annotation.__args__  # of `tuple[Table, ...]`
            values[name] = [examples(table, f"{inner}.")]
        elif isinstance(field.default, BaseModel):
            values[name] = examples(type(field.default), f"{inner}.")
        else:
            values[name] = example(inner, field.default)
    return values


def variables_of_secrets(values: Path) -> set[str]:
    """Return the variables that the pods have from Secrets, with a set of values."""
    (container,) = pod_of("--values", values)["spec"]["containers"]
    return {each["name"] for each in container.get("env", ()) if "valueFrom" in each}


def checksum(settings: Mapping[str, Any]) -> str:
    """Return what restarts the pods when it changes."""
    settings = {"tls": {"insecure": True}} | settings
    annotations = pod_of(values={"settings": settings})["metadata"]["annotations"]
    return annotations["checksum/settings"]


@pytest.mark.parametrize("values", VALUE_SETS, ids=IDS)
def test_helm_finds_no_fault(values: Path) -> None:
    """`helm lint --strict` accepts each set of values."""
    done = helm("lint", "--strict", "--values", values, CHART)

    assert not done.returncode, done.stdout


@pytest.mark.parametrize("values", VALUE_SETS, ids=IDS)
def test_manifests_are_what_kubernetes_knows(values: Path) -> None:
    """No manifest has a field that its type lacks, and the pods are "restricted"."""
    text = template("--values", values).stdout
    count = len(list(documents(text)))
    done = checked(text)

    assert f"{count} manifests, 0 faults" == done.stdout.strip(), done.stderr
    assert not done.returncode


@cache
def manifests_of_all_sets() -> str:
    """Return the manifests of all sets of values."""
    return "".join(template("--values", values).stdout for values in VALUE_SETS)


def checked(text: str) -> subprocess.CompletedProcess[str]:
    """Check manifests with deploy/check."""
    return subprocess.run(  # noqa: PLW1510  # the tests look at the exit code
        [require("check-manifests")], input=text, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param("minReadySeconds", "minreadyseconds", "unknown field", id="case"),
        pytest.param(
            "failureThreshold: 60", "failures: 60", "unknown field", id="name"
        ),
        pytest.param(
            "periodSeconds: 1\n", "periodSeconds: soon\n", "string", id="type"
        ),
        pytest.param("kind: Deployment", "kind: Deploy", "unknown kind", id="kind"),
        pytest.param("interval: 15s", "every: 15s", "unknown field", id="monitor"),
        pytest.param("groups:", "group:", "unknown field", id="rule"),
        pytest.param("issuerRef:", "issuer:", "unknown field", id="certificate"),
        pytest.param("strategy:", "minReadySeconds: 1\n  strategy:", "set", id="twice"),
        pytest.param(
            "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot", id="root"
        ),
        pytest.param(
            "allowPrivilegeEscalation: false",
            "allowPrivilegeEscalation: true",
            "allowPrivilegeEscalation",
            id="privileges",
        ),
    ],
)
def test_manifest_with_a_fault_is_reported(old: str, new: str, fault: str) -> None:
    """The check of the manifests finds what Kubernetes would ignore or refuse."""
    text = manifests_of_all_sets()
    assert old in text
    done = checked(text.replace(old, new, 1))

    assert 1 == done.returncode
    assert fault in done.stderr


def test_no_manifest_is_reported() -> None:
    """An empty input isn't a success."""
    assert 1 == checked("# nothing\n").returncode


@pytest.mark.parametrize("values", VALUE_SETS, ids=IDS)
def test_gateway_accepts_the_rendered_settings(values: Path, tmp_path: Path) -> None:
    """The gateway loads the file of each set of values, once its files exist."""
    text = file_of(rendered("--values", values))
    pair = trustme.CA().issue_cert("gateway.corp")
    contents = {
        "tls.crt": pair.cert_chain_pems[0].bytes(),
        "tls.key": pair.private_key_pem.bytes(),
        "ca.crt": Authority().pem,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        text = re.sub(rf'/etc/[^"&]*/{name}', str(tmp_path / name), text)
    file = tmp_path / FILE
    file.write_text(text)
    environ = {name: OF_SECRETS[name] for name in variables_of_secrets(values)}

    assert load(flags={}, environ=environ, config_file=file).settings


def test_every_setting_can_be_given_as_a_value() -> None:
    """Each setting reaches the file as it was given, and the gateway accepts it."""
    given = examples()
    found = settings_of({"settings": given})

    assert given == found
    assert set(names_in(Settings)) - OF_THE_STORE == set(names(found))
    assert [] == remove_invalid(Settings, found, str)


def names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of each setting in a file, and of each table."""
    for name, value in values.items():
        yield f"{prefix}{name}"
        is_list = isinstance(value, list) and isinstance(value[0], dict)
        for table in value if is_list else [value]:
            if isinstance(table, dict) and prefix + name != "callers.tags":
                yield from names(table, f"{prefix}{name}.")


def test_odd_texts_reach_the_gateway_unchanged() -> None:
    """Quotes, control characters and templates are the text that they are."""
    rule = {"identity": "*", "tags": {f"{each}=": each for each in ODD}}
    found = settings_of({"settings": {"withhold": ODD, "callers": [rule]}})

    assert ODD == found["withhold"]
    assert [rule] == found["callers"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"replica": 2}, id="value"),
        pytest.param({"image": {"name": "gateway"}}, id="part of a value"),
        pytest.param({"settings": {"listn": "0.0.0.0:1"}}, id="setting"),
        pytest.param({"settings": {"log": {"levels": "info"}}}, id="key of a table"),
        pytest.param({"settings": {"callers": [{"id": "x"}]}}, id="key of a rule"),
        pytest.param({"settings": {"callers": [{}]}}, id="rule without identity"),
        pytest.param({"settings": {"log": {"level": "loud"}}}, id="word"),
        pytest.param({"settings": {"max_in_flight": 0}}, id="too small"),
        pytest.param({"settings": {"max_in_flight": 1.5}}, id="not whole"),
        pytest.param({"settings": {"quota": {"tps": "8"}}}, id="text"),
        pytest.param({"settings": {"drain_time": 25}}, id="without unit"),
        pytest.param({"settings": {"listen": "unix:/run/x.sock"}}, id="no port"),
        pytest.param({"settings": {"callers": []}}, id="no rules"),
        pytest.param(
            {"settings": {"callers": [{"identity": "a", "tags": {}}]}}, id="no tags"
        ),
        pytest.param({"settings": {"workers": 65}}, id="too many workers"),
        pytest.param({"settings": {"workers": "auto"}}, id="not a number of workers"),
        pytest.param({"shared": {"url": "valkey:6379"}}, id="store without a scheme"),
        pytest.param({"shared": {"secret": "word"}}, id="secret in a value"),
        pytest.param({"preStopSeconds": -1}, id="negative"),
        pytest.param({"prometheusRule": {"runbookBaseUrl": "git.corp"}}, id="no URL"),
    ],
)
def test_value_that_does_not_exist_is_refused(values: dict[str, Any]) -> None:
    """The schema of the values is strict."""
    done = template(values=values)

    assert done.returncode
    assert "don't meet the specifications of the schema" in done.stderr


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        pytest.param({}, "tls.existingSecret", id="neither TLS nor insecure"),
        pytest.param(
            {"settings": {"tls": {"insecure": True}, "admin_listen": "127.0.0.1:9464"}},
            "settings.admin_listen 127.0.0.1:9464",
            id="unreachable",
        ),
        *(
            pytest.param(
                {"settings": {"tls": {"insecure": True}, "listen": address}},
                f"settings.listen {address}",
                id=address,
            )
            for address in ("LOCALHOST:50051", "[0:0:0:0:0:0:0:1]:50051")
        ),
        pytest.param(
            {"settings": {"tls": {"insecure": True}, "listen": "0.0.0.0:9464"}},
            "port 9464",
            id="port of the admin pages",
        ),
        pytest.param(
            {
                "settings": {
                    "tls": {"insecure": True},
                    "listeners": [{"address": "0.0.0.0:50051"}],
                }
            },
            "port 50051",
            id="port of another listener",
        ),
        pytest.param(
            {"settings": {"tls": {"insecure": True}, "drain_time": "1h"}},
            "at most 10m",
            id="longest drain",
        ),
        pytest.param(
            INSECURE
            | {
                "aws": {"region": "us-east-1"},
                "extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}],
            },
            "leave out AWS_REGION",
            id="variable twice",
        ),
        pytest.param(
            {"tls": {"certManager": {"enabled": True}}}, "issuerRef.name", id="issuer"
        ),
        pytest.param(
            {"tls": {"existingSecret": "a", "certManager": {"enabled": True}}},
            "not both",
            id="two certificates",
        ),
        pytest.param(
            INSECURE | {"tls": {"clientCa": {"secret": "a", "configMap": "b"}}},
            "not both",
            id="two authorities",
        ),
        pytest.param(
            INSECURE | {"autoscaling": {"minReplicas": 5}}, "at most", id="replicas"
        ),
        pytest.param(
            INSECURE | {"replicas": 20}, "less than 0.5", id="too small a share"
        ),
        pytest.param(
            {
                "settings": {"tls": {"insecure": True}, "workers": 2},
                "resources": {"requests": {"cpu": "1e3m"}},
            },
            "write cpu, 1e3m,",
            id="exponent of a quantity",
        ),
        *(
            pytest.param(
                {"settings": {"tls": {"insecure": True}, "shared": {name: "a"}}},
                f"settings.shared.{name}: leave it out, and set shared.{name}",
                id=f"{name} in the settings",
            )
            for name in ("url", "secret")
        ),
        *(
            pytest.param(
                INSECURE | {"extraEnv": [{"name": name, "value": "a"}]},
                f"leave out {name}",
                id=f"{name} in the environment",
            )
            for name in ("GATEWAY_SHARED__URL", "GATEWAY_SHARED__SECRET")
        ),
        *(
            pytest.param(
                INSECURE | {"shared": {"url": url, **SECRET}}, "has a password", id=url
            )
            for url in (
                "redis://:word@valkey",
                "redis://user:word@valkey:6379/1",
                "redis://valkey?db=1&password=word",
                "redis+sentinel://valkey/a?sentinel_password=word",
            )
        ),
        pytest.param(
            INSECURE | {"shared": {"url": "redis://valkey"}},
            "Set shared.secret.name too",
            id="store without a secret",
        ),
        pytest.param(
            INSECURE | {"shared": SECRET}, "shared.url or", id="secret without a store"
        ),
        pytest.param(
            INSECURE
            | {
                "shared": {
                    "url": "redis://valkey",
                    "urlSecret": {"name": "a"},
                    **SECRET,
                }
            },
            "not both",
            id="two stores",
        ),
        pytest.param(
            INSECURE | {"shared": {**STORE["shared"], "tlsSecret": "a"}},
            "names no file",
            id="unused certificate",
        ),
        pytest.param(
            INSECURE
            | {
                "prometheusRule": {"enabled": True},
                "resources": {"limits": {"memory": "500m"}},
            },
            "resources.limits.memory 500m",
            id="unit of memory",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    values: dict[str, Any], fault: str
) -> None:
    """What the schema can't express is a fault with advice."""
    done = template(values=values)

    assert done.returncode
    assert fault in done.stderr


def test_own_labels_and_annotations_are_kept() -> None:
    """The labels that select the pods, and the checksum, can't be replaced."""
    selected, checksum = "app.kubernetes.io/name", "checksum/settings"
    more = {
        "podLabels": {selected: "other", "team": "omics"},
        "podAnnotations": {checksum: "0", "team": "omics"},
    }
    own, found = pod_of(values=INSECURE), pod_of(values=INSECURE | more)

    for kind, key in (("labels", selected), ("annotations", checksum)):
        assert own["metadata"][kind][key] == found["metadata"][kind][key]
        assert "omics" == found["metadata"][kind]["team"]


@pytest.mark.parametrize(
    ("drain_time", "seconds"),
    [
        pytest.param("25s", 35, id="default"),
        pytest.param("500ms", 11, id="rounded up"),
        pytest.param("1.5m", 100, id="minutes"),
        pytest.param("0s", 10, id="none"),
    ],
)
def test_pods_get_the_time_that_a_drain_takes(drain_time: str, seconds: int) -> None:
    """The grace period is the time of the hook, `drain_time` and a margin."""
    settings = {"tls": {"insecure": True}, "drain_time": drain_time}
    pod = pod_of(values={"settings": settings})

    assert seconds == pod["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("values", "hook", "seconds"),
    [
        pytest.param({}, ["sleep", "5"], 35, id="default"),
        pytest.param({"preStopSeconds": 20}, ["sleep", "20"], 50, id="longer"),
        pytest.param({"preStopSeconds": 0}, None, 30, id="none"),
    ],
)
def test_pods_serve_until_their_addresses_are_removed(
    values: dict[str, Any], hook: list[str] | None, seconds: int
) -> None:
    """A hook delays the shutdown, and the grace period has its time too."""
    spec = pod_of(values=INSECURE | values)["spec"]
    (container,) = spec["containers"]
    expected = hook and {"preStop": {"exec": {"command": hook}}}

    assert expected == container.get("lifecycle")
    assert seconds == spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("values", "quota"),
    [
        pytest.param({}, {"tps": 4, "burst": 1}, id="two pods"),
        pytest.param({"replicas": 1}, {"tps": 8, "burst": 2}, id="one pod"),
        pytest.param({"replicas": 0}, {"tps": 8, "burst": 2}, id="no pod"),
        pytest.param(
            {"replicas": 1, "autoscaling": {"enabled": True, "maxReplicas": 8}},
            {"tps": 1, "burst": 1},
            id="autoscaled",
        ),
        pytest.param(
            {"settings": {"tls": {"insecure": True}, "quota": {"tps": 3.5}}},
            {"tps": 3.5, "burst": 1},
            id="of each pod",
        ),
        pytest.param(STORE, {"tps": 8, "burst": 2}, id="with a store"),
        pytest.param(
            STORE | {"replicas": 40}, {"tps": 8, "burst": 2}, id="a store for many"
        ),
        pytest.param(
            STORE | {"settings": {"tls": {"insecure": True}, "quota": {"tps": 3.5}}},
            {"tps": 3.5, "burst": 2},
            id="of all, with a store",
        ),
    ],
)
def test_pods_share_the_quota_of_the_account(
    values: dict[str, Any], quota: dict[str, float]
) -> None:
    """Each pod may use its part of the account's rate."""
    assert quota == settings_of(values)["quota"]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param(
            {},
            {
                "requests": {"cpu": "750m", "memory": "768Mi"},
                "limits": {"memory": "1536Mi"},
            },
            id="default",
        ),
        pytest.param(
            {"requests": {"cpu": 0.5}, "limits": {"memory": 536870912}},
            {
                "requests": {"cpu": "1.500", "memory": "768Mi"},
                "limits": {"memory": "1610612736"},
            },
            id="numbers",
        ),
        pytest.param(
            {"requests": {"memory": "0.25Gi"}, "limits": None},
            {"requests": {"cpu": "750m", "memory": "0.750Gi"}},
            id="fraction",
        ),
    ],
)
def test_pod_has_the_resources_of_its_workers(
    resources: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Three workers have three times as much as one."""
    settings = {"tls": {"insecure": True}, "workers": 3}
    spec = pod_of(values={"settings": settings, "resources": resources})["spec"]

    assert expected == spec["containers"][0]["resources"]


@pytest.mark.parametrize(
    ("settings", "restarts"),
    [
        pytest.param({"callers": [{"identity": "*"}]}, False, id="rules"),
        pytest.param({"withhold": ["sessionPolicy"]}, False, id="withhold"),
        pytest.param({"log": {"level": "debug", "format": "json"}}, False, id="level"),
        pytest.param({"log": {"level": "debug", "format": "text"}}, True, id="format"),
        pytest.param({"max_in_flight": 100}, True, id="another"),
    ],
)
def test_only_settings_that_need_it_restart_the_pods(
    settings: dict[str, Any],
    restarts: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    """A setting that the running gateway reads again doesn't change the pods."""
    assert restarts == (checksum({}) != checksum(settings))


def test_chart_lists_the_settings_that_a_reload_changes() -> None:
    """The pods restart for exactly the others."""
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    (_, block) = helpers.split('define "gateway.restartingSettings"')
    (listed,) = re.findall(r":= list (.*?) }}", block.partition("{{- define ")[0])

    assert RELOADED == tuple(json.loads(f"[{listed.replace(' ', ',')}]"))


def test_services_have_the_ports_that_other_pods_can_reach() -> None:
    """Further TCP listeners are served too, but not sockets and loopback addresses."""
    addresses = ["0.0.0.0:50052", "unix:/run/a.sock", "127.0.0.1:50053", "[::]:50054"]
    settings = {
        "tls": {"insecure": True},
        "listeners": [{"address": each} for each in addresses],
    }
    manifests = rendered(values={"settings": settings})
    ports = [
        [each["port"] for each in manifests["Service", name]["spec"]["ports"]]
        for name in (NAME, f"{NAME}-headless")
    ]

    assert [[50051, 50052, 50054]] * 2 == ports
    assert "None" == manifests["Service", f"{NAME}-headless"]["spec"]["clusterIP"]


def rules_of(values: Mapping[str, Any]) -> Any:
    """Return the alerts that the chart renders with values, and INSECURE."""
    on = {"enabled": True} | values.get("prometheusRule", {})
    manifests = rendered(values={**INSECURE, **values, "prometheusRule": on})
    return manifests["PrometheusRule", NAME]["spec"]


def test_sets_of_values_name_the_collector_s_port_of_the_default_protocol() -> None:
    """Wherever a set has the port of a collector, it is the one of the guide."""
    (port,) = re.findall(r"_OTLP_ENDPOINT=http://127\.0\.0\.1:(\d+)", TRACING)
    ports = []
    for each in VALUE_SETS:
        values = yaml.safe_load(each.read_text())
        variables = values.get("extraEnv", ())
        ports += [one["value"].rpartition(":")[2] for one in variables]
        rules = values.get("networkPolicy", {}).get("extraEgress", ())
        ports += [str(one["port"]) for rule in rules for one in rule["ports"]]

    assert "http/protobuf" == DEFAULT_PROTOCOL
    assert [port, port] == ports


def test_alerts_and_dashboard_are_those_of_the_chart() -> None:
    """Nothing in them is taken for a template or quoted twice."""
    files = CHART / "files"
    manifests = rendered(values=INSECURE | {"dashboard": {"enabled": True}})
    (dashboard,) = manifests["ConfigMap", f"{NAME}-dashboard"]["data"].values()

    unlimited = rules_of({"resources": {"limits": None}})
    assert yaml.safe_load((files / "rules.yaml").read_text()) == unlimited
    assert json.loads((files / "dashboard.json").read_text()) == json.loads(dashboard)


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        pytest.param("512Mi", 512 * 1024**2, id="default"),
        pytest.param("1.5Gi", 1536 * 1024**2, id="fraction"),
        pytest.param("700M", 700_000_000, id="decimal"),
        pytest.param(2147483648, 2147483648, id="bytes"),
    ],
)
def test_alert_on_memory_has_the_limit_of_the_pods(
    memory: str | int, size: int, tmp_path: Path
) -> None:
    """It fires above 80 % of the limit, and not below."""
    rules = rules_of({"resources": {"limits": {"memory": memory}}})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    cases = tmp_path / "cases.yaml"
    cases.write_text(yaml.safe_dump(memory_cases(size)))

    assert "SUCCESS" in promtool("check", "rules", tmp_path / "rules.yaml")
    assert "SUCCESS" in promtool("test", "rules", cases)


def memory_cases(size: int) -> dict[str, Any]:
    """Return promtool's cases of processes with 81 % and 79 % of a limit."""
    series = 'healthomics_gateway_build_info{job="gateway",instance="a:9464"}'
    memory = 'process_resident_memory_bytes{job="gateway",instance="a:9464"}'
    alert = '{alertname="HealthOmicsGatewayMemoryHigh"}'
    return {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series, "values": "1x3000"},
                    {"series": memory, "values": f"{int(size * share)}x60"},
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "20m",
                        "exp_samples": [{"labels": alert, "value": 1}] * fires,
                    }
                ],
            }
            for share, fires in ((0.81, 1), (0.79, 0))
        ],
    }


@pytest.mark.parametrize(
    ("base", "prefix"),
    [
        pytest.param("", "docs/", id="none"),
        pytest.param("https://git.corp/a", "https://git.corp/a/docs/", id="address"),
        pytest.param("https://git.corp/a/", "https://git.corp/a/docs/", id="slash"),
    ],
)
def test_alerts_link_to_the_run_books(base: str, prefix: str) -> None:
    """The address of the run books is put before the path of the page."""
    rules = rules_of({"prometheusRule": {"runbookBaseUrl": base}})
    links = [
        rule["annotations"]["runbook_url"]
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]

    assert links
    assert all(each.startswith(f"{prefix}guide/operations.md#") for each in links)


def test_versions_are_those_of_the_gateway() -> None:
    """Chart, image and task definition have the version of the release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    task = json.loads((DEPLOY / "ecs" / "task-definition.json").read_text())
    images = {each["image"].rpartition(":")[2] for each in task["containerDefinitions"]}

    assert [version] * 2 == [chart["version"], chart["appVersion"]]
    assert f"ARG VERSION={version}\n" in (DEPLOY / "Dockerfile").read_text()
    assert {version} == images


def test_notes_say_what_share_of_the_quota_a_pod_has(tmp_path: Path) -> None:
    """After an installation, helm shows the addresses and the share of the quota."""
    text = notes_of(INSECURE, tmp_path)

    assert f"{NAME}.omics.svc:50051" in text
    assert f"dns:///{NAME}-headless.omics.svc:50051" in text
    assert "quota.tps = 4 and quota.burst = 1" in text
    assert "EKS Pod Identity" in text
    assert f"exec deployment/{NAME} --container gateway -- " in text
    assert "logs --selector app.kubernetes.io/instance=gateway " in text
