"""The names of the services agree wherever they are listed."""

from __future__ import annotations

from typing import get_args

from healthomics_gateway.auth.policy import ALL_METHODS
from healthomics_gateway.services.names import SERVICES, STANDARD, full_names
from healthomics_gateway.services.reflection import served_descriptors
from healthomics_gateway.settings.schema import StandardService


def test_standard_services_have_one_list() -> None:
    """The settings and the rules know the same services as the servers."""
    names = set(STANDARD.values())

    assert names == set(get_args(StandardService))
    assert names | {"GetRun", "WatchRun"} == ALL_METHODS


def test_services_are_described() -> None:
    """Reflection can describe each service by its full name."""
    found = [served_descriptors().FindServiceByName(each) for each in SERVICES]

    assert list(SERVICES) == [each.full_name for each in found]


def test_name_of_the_settings_may_mean_two_services() -> None:
    """Reflection has two versions, which are served together."""
    versions = [
        f"grpc.reflection.{each}.ServerReflection" for each in ("v1", "v1alpha")
    ]

    assert versions == full_names(["Reflection"])
