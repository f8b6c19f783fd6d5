"""What Airflow asks a provider package for, through the entry point `apache_airflow_provider`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of this package for Airflow."""
    return {
        # Airflow refuses to start unless this is the normalized name of the distribution.
        "package-name": "comprehend-phi",
        "name": "Comprehend PHI",
        "description": "PHI detection jobs of Amazon Comprehend Medical, each started once.",
        "versions": [version("comprehend_phi")],
        "extra-links": ["comprehend_phi.airflow.link.PHIDetectionJobLink"],
    }
