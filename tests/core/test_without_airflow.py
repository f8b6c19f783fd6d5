"""What `comprehend_phi.airflow` does in an environment without Airflow."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import pytest

from comprehend_phi import airflow
from comprehend_phi.airflow.provider import get_provider_info


@pytest.mark.parametrize("name", airflow.__all__)
def test_a_missing_airflow_is_an_error_that_names_the_extra(name: str) -> None:
    assert find_spec("airflow") is None
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(airflow, name)

    assert caught.value.name == "airflow"
    assert str(caught.value) == (
        "comprehend_phi.airflow needs the module airflow, which the extra `airflow` of"
        " comprehend_phi installs"
    )


def test_the_provider_can_be_described() -> None:
    assert get_provider_info()["versions"] == [version("comprehend_phi")]


def test_the_package_lists_its_names_without_importing_them() -> None:
    assert set(airflow.__all__) <= set(dir(airflow))


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PHIHok'"):
        airflow.PHIHok  # type: ignore[attr-defined]  # noqa: B018 - that is the test
