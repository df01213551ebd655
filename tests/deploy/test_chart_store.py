"""What the Helm chart renders for a store that the pods share."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.tools import (
    INSECURE,
    NAME,
    SECRET,
    STORE,
    file_of,
    notes_of,
    pod_of,
    rendered,
    settings_of,
)


@pytest.mark.parametrize(
    ("values", "replicas"),
    [
        pytest.param({}, 2, id="default"),
        pytest.param({"replicas": 5}, 5, id="pods"),
        pytest.param({"replicas": 0}, 1, id="no pod"),
        pytest.param(
            {"autoscaling": {"enabled": True, "maxReplicas": 8}}, 8, id="autoscaled"
        ),
        pytest.param({"settings": {"shared": {"replicas": 3}}}, 3, id="given"),
    ],
)
def test_pods_at_a_store_know_how_many_they_are(
    values: dict[str, Any], replicas: int
) -> None:
    """Until a pod has reached the store, its share is that of the largest number."""
    expected = {"url": STORE["shared"]["url"], "replicas": replicas}

    assert expected == settings_of(STORE | values)["shared"]


def test_secrets_of_the_store_are_only_in_secrets() -> None:
    """Address and secret come from Secrets that exist, and nothing else has them."""
    shared = {"urlSecret": {"name": "a", "key": "b"}, "secret": {"name": "c"}}
    manifests = rendered(values=INSECURE | {"shared": shared})
    (container,) = pod_of(values=INSECURE | {"shared": shared})["spec"]["containers"]
    found = {
        each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]
    }

    assert {
        "GATEWAY_SHARED__URL": {"name": "a", "key": "b"},
        "GATEWAY_SHARED__SECRET": {"name": "c", "key": "secret"},
    } == found
    assert "Secret" not in {kind for kind, _ in manifests}
    assert {"replicas": 2} == tomllib.loads(file_of(manifests))["shared"]


def test_files_for_the_store_are_mounted() -> None:
    """The gateway finds the files of the Secret where the address names them."""
    folder = "/etc/healthomics-gateway/store"
    url = f"rediss://valkey?ssl_ca_certs={folder}/ca.crt"
    shared = {"url": url, "tlsSecret": "client", **SECRET}
    spec = pod_of(values=INSECURE | {"shared": shared})["spec"]
    (mount,) = [
        each
        for each in spec["containers"][0]["volumeMounts"]
        if each["name"] == "store"
    ]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "store"]

    assert {"name": "store", "mountPath": folder, "readOnly": True} == mount
    assert "client" == volume["secret"]["secretName"]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        pytest.param("redis://valkey.cache", [6379], id="default"),
        pytest.param("rediss://user@valkey.cache:6380/1", [6380], id="port"),
        pytest.param("redis://[fd00::6:1]:7000?db=10", [7000], id="IPv6"),
        pytest.param("redis+cluster://a:7000,b", [7000, 6379], id="cluster"),
        pytest.param("redis+sentinel://a,b:26380/m", [26379, 26380, 6379], id="more"),
    ],
)
def test_network_policy_lets_pods_reach_the_store(url: str, ports: list[int]) -> None:
    """The ports of the address are open outward, beside those of a chart without it."""
    values = INSECURE | {"networkPolicy": {"enabled": True}}
    store = {"shared": {"url": url, **SECRET}}
    without, found = (
        rendered(values=each)["NetworkPolicy", NAME]["spec"]["egress"]
        for each in (values, values | store)
    )

    assert [*without, {"ports": [{"protocol": "TCP", "port": at} for at in ports]}] == (
        found
    )


def test_notes_say_that_pods_at_a_store_share_the_quota(tmp_path: Path) -> None:
    """With a store, helm shows the quota of all pods."""
    text = " ".join(notes_of(INSECURE | STORE, tmp_path).split())

    assert "All pods together use quota.tps = 8 and quota.burst = 2" in text
    assert "don't know of each other" not in text
