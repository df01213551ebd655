"""The guides' commands for each platform use the names of the files in deploy/."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore import xform_name

from deploy.test_aws import FILES, GATEWAY, TASK
from deploy.test_systemd import PROGRAM, UNIT, service
from deploy.tools import DEPLOY, NAME, ROOT, pod_of, rendered
from testkit.tools import DEPLOY_TOOLS, require

GUIDE = ROOT / "docs" / "guide"
DEPLOYMENT = (GUIDE / "deployment.md").read_text()
CHECK = (GUIDE / "check.md").read_text()
# Of the client of AWS itself, not of an operation.
OPTIONS = {"query", "output", "cli-input-json"}
OWN_COMMANDS = ["ecr get-login-password"]


def commands(name: str, *pages: str) -> list[str]:
    """Return a program's commands on pages, one a line and without what follows |."""
    pages = pages or tuple(each.read_text() for each in sorted(GUIDE.glob("*.md")))
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", "\n".join(pages))
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.search(rf"(?:^|\s|\(){name} ([^|]*)", each) for each in lines]
    return [each[1] for each in found if each]


def page_values() -> Any:
    """Return the values that the page shows."""
    (text,) = re.findall(r"```yaml\n(.*?)```", DEPLOYMENT, re.DOTALL)
    return yaml.safe_load(text)


def test_helm_commands_of_the_page_render(tmp_path: Path) -> None:
    """They work with a helm that knows no cluster, as the page installs it."""
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(page_values()))
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (command,) = commands("helm template")
    done = subprocess.run(
        [
            require("helm", path=DEPLOY_TOOLS),
            "template",
            *shlex.split(command.split(" > ")[0]),
        ],
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert not done.returncode, done.stderr
    assert f"name: {NAME}" in done.stdout


def test_tools_check_for_one_version_of_kubernetes() -> None:
    """Helm renders for the version whose schemas kubeconform reads."""
    given = [
        *re.findall(r"--kube-version (\S+)", DEPLOYMENT),
        *re.findall(r"-kubernetes-version (\S+)", DEPLOYMENT),
    ]

    assert 2 == len(given)
    assert 1 == len(set(given))


def test_kubectl_commands_name_objects_of_the_release() -> None:
    """The release of the page has the Deployment and the labels that they name."""
    found = commands("kubectl")
    deployments = {
        name for kind, name in rendered(values=page_values()) if kind == "Deployment"
    }
    labels = pod_of(values=page_values())["metadata"]["labels"]
    namespaces = {
        each for line in found for each in re.findall(r"(?:-n|--namespace) (\S+)", line)
    }
    selectors = [pair for line in found for pair in re.findall(r"-l (\S+)=(\S+)", line)]

    assert {NAME} == deployments
    assert deployments == set(
        re.findall(r"\bdeployment/([\w-]+)", CHECK + DEPLOYMENT + "\n".join(found))
    )
    assert {"omics"} == namespaces
    assert selectors
    assert all(value == labels[key] for key, value in selectors)


def test_check_in_a_pod_reads_the_file_of_the_gateway() -> None:
    """`kubectl exec` gives the file that the container serves with."""
    (command,) = [each for each in commands("kubectl") if " exec " in each]
    (container,) = pod_of(values=page_values())["spec"]["containers"]

    assert f"--container {container['name']} " in command
    assert f"--config {container['args'][-1]}" in command


def test_check_with_systemd_has_what_the_unit_gives() -> None:
    """Environment, certificate, user, program and file are those of the unit."""
    (command,) = commands("systemd-run", CHECK)
    given = re.findall(r"--property=(\S+)", command)
    own = service()
    (start,) = own["ExecStart"]
    (variables,) = [each for each in own["Environment"] if "GATEWAY_" in each]

    assert [
        f"{key}={value}"
        for key in ("DynamicUser", "EnvironmentFile", "LoadCredential")
        for value in own[key]
    ] == given
    for each in variables.split():
        assert each.replace("%d", "${CREDENTIALS_DIRECTORY}") in command
    assert f"{PROGRAM} check 1234567" in command
    assert f"--config {start.rpartition(' ')[2]}" in command


def test_override_takes_the_certificate_out_of_the_unit() -> None:
    """It leaves the other variables of the unit as they are."""
    (text,) = re.findall(r"(?s)```ini\n\[Service\]\n(.*?)```", DEPLOYMENT)
    others = [each for each in service()["Environment"] if "TLS" not in each]

    assert ["LoadCredential=", "Environment="] == text.splitlines()[:2]
    assert [f"Environment={each}" for each in others] == text.splitlines()[2:]
    assert UNIT.name.removesuffix(".service") in DEPLOYMENT


@pytest.mark.parametrize("command", commands("aws"))
def test_command_of_aws_exists(command: str) -> None:
    """AWS's model has the operation and its parameters; no needed one is missing."""
    session = botocore.session.get_session()
    name, operation, *words = command.split()
    given = set(re.findall(r" --([a-z-]+)", command)) - OPTIONS
    if operation == "wait":
        waiters = session.get_waiter_model(name).waiter_names
        assert words[0] in {option(each) for each in waiters}
        return
    if f"{name} {operation}" in OWN_COMMANDS:
        return
    model = session.get_service_model(name)
    (known,) = [each for each in model.operation_names if option(each) == operation]
    shape = model.operation_model(known).input_shape

    assert given <= {option(each) for each in shape.members}
    if "--cli-input-json" not in command:
        assert {option(each) for each in shape.required_members} <= given


def option(name: str) -> str:
    """Return the name of a parameter as AWS's client writes it."""
    return str(xform_name(name, "-"))


def test_page_creates_what_the_task_definition_names() -> None:
    """The log group, the parameter, the secrets, the roles and the image exist then."""
    text = "\n".join(commands("aws", DEPLOYMENT))
    options = GATEWAY["logConfiguration"]["options"]
    roles = re.findall(r"for role in (.*); do", DEPLOYMENT)[0].split()
    image = GATEWAY["image"].partition("/")[2].partition(":")[0]

    assert f"create-log-group --log-group-name {options['awslogs-group']}" in text
    for name in names_of_secrets():
        assert f"name {name} " in text
    assert roles == [
        TASK[each].rpartition("/")[2] for each in ("taskRoleArn", "executionRoleArn")
    ]
    assert f"create-repository --repository-name {image}\n" in text
    assert f"--task-definition {TASK['family']} " in text
    assert f"containerName={GATEWAY['name']},containerPort=50051" in text


def names_of_secrets() -> Iterator[str]:
    """Yield the names of the parameter and of the secrets of the first container."""
    for each in FILES["secrets"]:
        arn = each["valueFrom"]
        secret = re.fullmatch(r".*:secret:(\S+)-\w{6}", arn)
        yield secret[1] if secret else arn.partition(":parameter")[2]


def test_check_on_ecs_reads_the_log_of_its_task() -> None:
    """The stream's name has the prefix and the container of the task definition."""
    options = GATEWAY["logConfiguration"]["options"]
    prefix = options["awslogs-stream-prefix"]

    assert f'"{prefix}/{GATEWAY["name"]}/${{task##*/}}"' in CHECK
    assert f"--log-group-name {options['awslogs-group']} " in CHECK
    assert f'"--config", "{GATEWAY["command"][-1]}"' in CHECK
