"""AWS's own model accepts the task definition, and the policies are the guide's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from deploy.test_dockerfile import health_check, the_last
from deploy.tools import DEPLOY, ROOT
from healthomics_gateway.durations import parse_duration
from healthomics_gateway.settings.environment import variable_of
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import names_in

TASK = json.loads((DEPLOY / "ecs" / "task-definition.json").read_text())
FILES, GATEWAY = TASK["containerDefinitions"]
POLICIES = {
    each.stem: json.loads(each.read_text())
    for each in sorted((DEPLOY / "iam").glob("*.json"))
}
TRUSTS = [name for name in POLICIES if "trust" in name]
GUIDE = json.loads((ROOT / "docs/guide/iam-policy.json").read_text())
PAGE = (ROOT / "docs/guide/security.md").read_text()
SECRET = re.compile(r"arn:aws:(secretsmanager|ssm):[a-z0-9-]+:[0-9]{12}:\S+")
MOST_STOP_SECONDS = 120  # of Fargate


def test_ecs_knows_every_part_of_the_task_definition() -> None:
    """The model of RegisterTaskDefinition accepts it and has all its names."""
    session = botocore.session.get_session()
    model = session.get_service_model("ecs").operation_model("RegisterTaskDefinition")
    report = ParamValidator().validate(TASK, model.input_shape)

    assert not report.has_errors(), report.generate_report()
    assert [] == unknown_in(TASK, model.input_shape)


def unknown_in(value: Any, shape: Any) -> list[str]:
    """Return the names and the words that a shape doesn't have."""
    if shape.type_name == "structure":
        found = [name for name in value if name not in shape.members]
        for name in value.keys() & shape.members.keys():
            found += unknown_in(value[name], shape.members[name])
        return found
    if shape.type_name == "list":
        return [each for item in value for each in unknown_in(item, shape.member)]
    is_word = shape.type_name == "string" and shape.enum
    return [value] if is_word and value not in shape.enum else []


def test_unknown_part_of_a_task_definition_is_found() -> None:
    """The test above can fail."""
    session = botocore.session.get_session()
    model = session.get_service_model("ecs").operation_model("RegisterTaskDefinition")
    task = TASK | {"networkMode": "awsvpn", "volumes": [{"nam": "files"}]}

    assert {"awsvpn", "nam"} == set(unknown_in(task, model.input_shape))


def test_task_takes_secrets_by_arn_only() -> None:
    """No variable holds a secret; each secret is named by an ARN."""
    assert FILES["secrets"]
    assert all(SECRET.fullmatch(each["valueFrom"]) for each in FILES["secrets"])
    assert "secrets" not in GATEWAY
    assert all("secret" not in each["value"] for each in GATEWAY["environment"])


def test_task_may_read_its_secrets() -> None:
    """The policy of the execution role allows what the task definition names."""
    allowed = list(resources_of(POLICIES["ecs-execution"]))
    for each in FILES["secrets"]:
        assert [one for one in allowed if fnmatchcase(each["valueFrom"], one)]


def resources_of(policy: Mapping[str, Any]) -> Iterator[str]:
    """Yield the patterns of resources that a policy allows, without the one of all."""
    for statement in policy["Statement"]:
        resource = statement["Resource"]
        if resource != "*":
            yield from [resource] if isinstance(resource, str) else resource


def test_task_agrees_with_the_image() -> None:
    """User, health check and ports are those of the Dockerfile."""
    ports = {str(each["containerPort"]) for each in GATEWAY["portMappings"]}

    assert the_last("USER") == GATEWAY["user"]
    assert ["CMD", *health_check()] == GATEWAY["healthCheck"]["command"]
    assert ports == set(the_last("EXPOSE").split())
    assert GATEWAY["readonlyRootFilesystem"]


def test_task_sets_only_settings_and_waits_for_the_drain() -> None:
    """Each variable is a setting, and the stop time-out is longer than the drain."""
    known = {variable_of(name) for name in names_in(Settings)}
    given = {each["name"]: each["value"] for each in GATEWAY["environment"]}
    drain_time = parse_duration(given["GATEWAY_DRAIN_TIME"])

    assert {name for name in given if name.startswith("GATEWAY_")} <= known
    assert drain_time.total_seconds() + 3 <= GATEWAY["stopTimeout"] <= MOST_STOP_SECONDS


def test_task_writes_the_files_that_the_gateway_reads() -> None:
    """The first container writes each file that the second one reads."""
    (mount,) = GATEWAY["mountPoints"]
    folder = mount["containerPath"]
    (script,) = FILES["command"]
    read = [each["value"] for each in GATEWAY["environment"]] + GATEWAY["command"]
    names = {each.rpartition("/")[2] for each in read if each.startswith(folder)}

    assert {"gateway.toml", "tls.crt", "tls.key"} == names
    assert names == set(re.findall(r"> ([a-z.]+)", script))
    assert all(f'"${each["name"]}"' in script for each in FILES["secrets"])
    assert f"chown {GATEWAY['user']} " in script
    assert mount["readOnly"]


@pytest.mark.parametrize("name", POLICIES)
def test_policy_has_the_shape_of_one(name: str) -> None:
    """A trust policy has principals, any other policy has resources that aren't all."""
    policy = POLICIES[name]
    subject = "Principal" if name in TRUSTS else "Resource"

    assert {"Version", "Statement"} == policy.keys()
    assert "2012-10-17" == policy["Version"]
    for statement in policy["Statement"]:
        assert {"Effect", "Action", subject} <= statement.keys()
        assert statement.keys() <= {"Sid", "Effect", "Action", subject, "Condition"}
        # AWS has no resources for this action.
        assert statement.get(subject) != "*" or (
            statement["Action"] == "ecr:GetAuthorizationToken"
        )


def test_policies_of_the_features_are_those_of_the_guide() -> None:
    """The two policies of the gateway's role together are iam-policy.json."""
    together = POLICIES["get-run"]["Statement"] + POLICIES["assume-roles"]["Statement"]

    assert GUIDE["Statement"] == together
    assert "omics:GetRun" == POLICIES["caller-role"]["Statement"][0]["Action"]


def test_trust_policy_of_callers_roles_is_that_of_the_guide() -> None:
    """The page on security shows the file."""
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)

    assert json.loads(shown) == POLICIES["caller-role-trust"]


def test_roles_of_the_task_definition_are_those_of_the_policies() -> None:
    """The gateway's role is the one that callers' roles trust."""
    (trust,) = POLICIES["caller-role-trust"]["Statement"]

    assert TASK["taskRoleArn"] == trust["Principal"]["AWS"]
