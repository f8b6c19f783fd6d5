"""Importing `comprehend_phi.testing` without the extra `testing`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["moto", "flask"])
def test_a_missing_dependency_is_an_error_that_names_the_extra(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import comprehend_phi.testing"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    said = (
        f"the local service needs the module {missing}, which the extra `testing` of comprehend_phi"
        " installs"
    )
    # Python 3.15 appends the name of a module that is spelled similarly.
    assert done.stderr.splitlines()[-1].startswith(f"ModuleNotFoundError: {said}")
