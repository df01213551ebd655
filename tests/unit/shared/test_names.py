"""The names of what is shared differ for whatever mustn't be mixed."""

from __future__ import annotations

from healthomics_gateway.shared.names import CONTRACT, Names
from healthomics_gateway.shared.seal import Sealer

REGION, ENDPOINT = "us-east-1", "https://omics.us-east-1.amazonaws.com"
OWN = "arn:aws:sts::123456789012:assumed-role/gateway"
ROLE = "arn:aws:iam::210987654321:role/reader"


def names(
    region: str = REGION,
    endpoint: str = ENDPOINT,
    secret: int = 0,
    contract: str = CONTRACT,
) -> Names:
    """Return the names of a gateway."""
    sealer = Sealer(bytes([secret] * 32))
    return Names(sealer, region=region, endpoint=endpoint, contract=contract)


def learned(identity: str = OWN, account: str = "123456789012") -> Names:
    """Return the names of a gateway that knows who it is."""
    known = names()
    known.learn(account=account, identity=identity)
    return known


def test_run_has_no_name_before_the_identity_is_known() -> None:
    """Another gateway may see other runs; a role's runs don't depend on it."""
    assert names().run("1", role="", caller="") is None
    assert names().run("1", role=ROLE, caller="c") == learned().run(
        "1", role=ROLE, caller="c"
    )


def test_runs_of_different_partitions_have_different_names() -> None:
    """It is the own identity, or a role and the caller, of one contract."""
    found = [
        learned().run("1", role="", caller=""),
        learned().run("2", role="", caller=""),
        learned(identity="other").run("1", role="", caller=""),
        learned(account="210987654321").run("1", role="", caller=""),
        learned().run("1", role=ROLE, caller="c"),
        learned().run("1", role=ROLE, caller="d"),
        learned().run("1", role="other", caller="c"),
        names(region="eu-west-1").run("1", role=ROLE, caller="c"),
        names(endpoint="http://127.0.0.1").run("1", role=ROLE, caller="c"),
        names(secret=1).run("1", role=ROLE, caller="c"),
        names(contract="older").run("1", role=ROLE, caller="c"),
    ]

    assert len(found) == len(set(found))
    assert learned().run("1", role="", caller="") == found[0]


def test_own_quota_has_one_name_whether_the_account_is_known_or_not() -> None:
    """Two names for one account would allow twice its rate."""
    assert names().quota("", "calls") == learned().quota("", "calls")
    assert names().quota("", "calls") != names().quota("", "polls")
    assert names().quota("", "calls") != names().quota("210987654321", "calls")


def test_gateways_with_different_contracts_share_quotas_and_limits() -> None:
    """Only what they know of runs differs."""
    older = names(contract="older")

    assert names().quota("", "calls") == older.quota("", "calls")
    assert names().caller("calls", "c") == older.caller("calls", "c")


def test_callers_have_names_by_what_is_counted() -> None:
    """The rate and the watches of a caller are counted separately."""
    assert names().caller("watches", "c") == names().caller("watches", "c")
    assert names().caller("watches", "c") != names().caller("calls", "c")
    assert names().caller("watches", "c") != names().caller("watches", "d")
