"""The table of mutation testing only names what exists."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE: dict[str, str] = runpy.run_path(str(ROOT / "tools" / "mutation.py"))["TESTS"]


def test_every_module_of_the_table_exists() -> None:
    assert [name for name in TABLE if not (ROOT / "comprehend_phi" / f"{name}.py").exists()] == []


def test_every_test_file_of_the_table_exists() -> None:
    names = {name for tests in TABLE.values() for name in tests.split()}
    assert [name for name in names if not (ROOT / "tests" / f"{name}.py").exists()] == []
