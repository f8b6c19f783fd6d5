"""What Airflow learns about this package."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import entry_points
from typing import Any, cast

import pytest
from airflow.providers_manager import ProvidersManager

import comprehend_phi.airflow
from comprehend_phi.airflow import PHIDetectionJobLink, StartPHIDetectionJobOperator


def test_airflow_finds_the_provider_and_its_link() -> None:
    [entry] = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.value.startswith("comprehend_phi.")
    ]
    assert entry.load()()["package-name"] == "comprehend-phi"

    manager: Any = cast(Any, ProvidersManager)()

    assert manager.providers["comprehend-phi"].version == comprehend_phi.__version__
    link = "comprehend_phi.airflow.link.PHIDetectionJobLink"
    assert link in manager.extra_links_class_names


def test_the_link_opens_the_console_in_the_region_of_the_job() -> None:
    [link] = StartPHIDetectionJobOperator.operator_extra_links

    assert isinstance(link, PHIDetectionJobLink)
    url = link.format_link(region_name="us-east-1", aws_domain="aws.amazon.com", job_id="1")
    assert url == "https://console.aws.amazon.com/comprehend/home?region=us-east-1"


def test_the_package_lists_its_names() -> None:
    assert set(comprehend_phi.airflow.__all__) <= set(dir(comprehend_phi.airflow))
    with pytest.raises(AttributeError, match="no attribute 'PHIHok'"):
        getattr(comprehend_phi.airflow, "PHIHok")  # noqa: B009 - type checkers know better


def test_a_missing_module_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)

    with pytest.raises(ModuleNotFoundError, match="needs the module asgiref, which the extra"):
        runpy.run_module("comprehend_phi.airflow._sdk")
