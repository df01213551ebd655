"""docs/guide/security.md agrees with the gateway and the policy."""

import json
import re
from pathlib import Path

import pytest
import trustme

from healthomics_gateway.settings.load import load
from testkit.svid import Authority

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "guide" / "security.md").read_text()
POLICY = ROOT / "docs" / "guide" / "iam-policy.json"
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)
FILES = re.compile(r'"(/[^"]+)"')


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=["kubernetes", "sidecar", "spiffe", "socket", "oidc"]
)
def test_example_is_a_file_that_the_gateway_starts_with(
    tmp_path: Path, example: str
) -> None:
    """The gateway accepts each example of the page, once its files exist."""
    pair = trustme.CA().issue_cert("gateway.corp")
    contents = {
        "key": pair.private_key_pem.bytes(),
        "bundle": Authority().pem,
        "": pair.cert_chain_pems[0].bytes(),
    }
    for name in FILES.findall(example):
        file = tmp_path / Path(name).name
        kind = next(part for part in contents if part in file.name)
        file.write_bytes(contents[kind])
        example = example.replace(name, str(file))
    config = tmp_path / "gateway.toml"
    config.write_text(example)

    assert load(flags={}, environ={}, config_file=config).settings.callers


def test_policies_allow_what_the_page_says_and_no_more() -> None:
    """The policy has the actions of the page's table, and the role's trust has both."""
    policy = json.loads(POLICY.read_text())
    (trust,) = (
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    )
    actions = [each["Action"] for each in policy["Statement"]]
    table = re.search(r"\| feature \| AWS permissions.*?\n\n", DOC, re.DOTALL)
    assert table

    assert ["omics:GetRun", ["sts:AssumeRole", "sts:SetSourceIdentity"]] == actions
    assert actions[1] == trust["Statement"][0]["Action"]
    assert {"omics:GetRun", *actions[1]} == set(re.findall(r"`(\w+:\w+)`", table[0]))
    assert all(each["Resource"] != "*" for each in policy["Statement"])
