"""The public names of `comprehend_phi`, the cost of importing it, and AWS's names in modules."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tokenize
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import comprehend_phi
from comprehend_phi import aio, errors

PACKAGE = Path(comprehend_phi.__file__).parent
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


# --- Names ----------------------------------------------------------------------------------------


def test_the_public_names_are_sorted_and_unique() -> None:
    assert comprehend_phi.__all__ == sorted(set(comprehend_phi.__all__))


@pytest.mark.parametrize("name", comprehend_phi.__all__)
def test_each_public_name_exists(name: str) -> None:
    assert getattr(comprehend_phi, name) is not None
    assert name in dir(comprehend_phi)


def test_the_package_has_no_unlisted_names() -> None:
    unlisted = {
        name
        for name, value in vars(comprehend_phi).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "").startswith("comprehend_phi")
    }

    assert unlisted - set(comprehend_phi.__all__) == set()


def test_every_error_and_warning_is_public() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
        and not name.startswith("_")
    }

    assert raised - set(comprehend_phi.__all__) == set()


def test_a_misspelled_name_raises_attribute_error() -> None:
    name = "PHICleint"

    with pytest.raises(AttributeError, match="'comprehend_phi' has no attribute 'PHICleint'"):
        getattr(comprehend_phi, name)
    assert not hasattr(comprehend_phi, name)


def test_a_star_import_imports_the_public_names() -> None:
    names: dict[str, Any] = {}
    exec("from comprehend_phi import *", names)

    assert set(comprehend_phi.__all__) <= names.keys()


@pytest.mark.parametrize("name", aio.__all__)
def test_aio_has_the_names_of_the_asynchronous_client(name: str) -> None:
    assert getattr(aio, name) is getattr(comprehend_phi, name)


# --- Docstrings -----------------------------------------------------------------------------------

PUBLIC: dict[str, Any] = {
    name: getattr(comprehend_phi, name)
    for name in comprehend_phi.__all__
    if not name.startswith("__")
}


def _methods(cls: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(cls).items()
        if not name.startswith("_")
        and isinstance(member, (FunctionType, property, classmethod, staticmethod))
    }


METHODS = {
    f"{name}.{method}": member
    for name, cls in PUBLIC.items()
    if inspect.isclass(cls)
    for method, member in _methods(cls).items()
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_class_and_function_has_a_docstring(name: str) -> None:
    doc = PUBLIC[name].__doc__ or ""

    assert doc.strip()
    # A signature that a library generated is not a docstring.
    assert not doc.startswith(f"{name}(")


@pytest.mark.parametrize("name", METHODS)
def test_every_public_method_has_a_docstring(name: str) -> None:
    assert (METHODS[name].__doc__ or "").strip()


def test_the_docstring_test_covers_the_methods_of_the_client() -> None:
    assert {"PHIClient.submit", "Job.wait", "JobStatus.is_terminal"} <= METHODS.keys()


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_every_module_has_a_docstring(path: Path) -> None:
    with tokenize.open(path) as file:
        assert ast.get_docstring(ast.parse(file.read()))


# --- Importing ------------------------------------------------------------------------------------


def run(code: str, directory: Path) -> str:
    """Return what a new interpreter prints. It starts in a directory without a checkout."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_that_tests_start_import_the_package_that_is_tested(tmp_path: Path) -> None:
    (tmp_path / "comprehend_phi").mkdir()
    (tmp_path / "comprehend_phi" / "__init__.py").touch()

    printed = run("import comprehend_phi; print(comprehend_phi.__file__)", tmp_path)

    assert printed.strip() == comprehend_phi.__file__


HEAVY = {
    "boto3",
    "botocore",
    "tenacity",
    "msgspec",
    "moto",
    "asyncio",
    "flask",
    "obstore",
    "pyarrow",
}
LOADED = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"


def test_importing_the_package_imports_no_heavy_library(tmp_path: Path) -> None:
    # The test proves nothing if the interpreter already starts with one of them.
    assert not HEAVY & set(run(LOADED, tmp_path).split())

    loaded = set(run(f"import comprehend_phi; {LOADED}", tmp_path).split())

    assert "comprehend_phi" in loaded
    assert not HEAVY & loaded


def test_importing_a_client_imports_nothing_that_reads_results(tmp_path: Path) -> None:
    code = "import sys; from comprehend_phi import PHIClient; print(*sys.modules)"

    assert not [name for name in run(code, tmp_path).split() if "._results" in name]


def test_building_a_request_imports_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import comprehend_phi as c; c.StartPHIDetectionJobRequest("
        "input_data_config=c.InputDataConfig(s3_bucket='notes'),"
        "output_data_config=c.OutputDataConfig(s3_bucket='notes'),"
        "data_access_role_arn='arn:aws:iam::123456789012:role/r', job_name='\\u00e9t\\u00e9');"
    )

    assert not HEAVY & set(run(f"{code} {LOADED}", tmp_path).split())


# A lazy name never becomes an attribute of the package. Each access gets it from its module.
LAZY = sorted(set(comprehend_phi.__all__) - vars(comprehend_phi).keys())


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_name_can_be_imported_first(name: str, tmp_path: Path) -> None:
    assert run(f"from comprehend_phi import {name}; print('done')", tmp_path) == "done\n"


def test_a_lazy_name_is_the_object_in_its_module() -> None:
    from comprehend_phi import Entity, Trait

    assert comprehend_phi.Entity is Entity
    assert comprehend_phi.Trait is Trait
    assert {"Entity", "Trait", "__version__"} <= set(LAZY)


# --- Version --------------------------------------------------------------------------------------


def test_the_version_is_the_installed_one() -> None:
    assert comprehend_phi.__version__ == version("comprehend_phi")


def test_the_newest_release_in_the_changelog_is_the_version() -> None:
    headings = re.findall(r"^## \[?([^\]\s]+)", CHANGELOG.read_text("utf-8"), re.MULTILINE)

    releases = (each for each in headings if each != "Unreleased")
    assert next(releases) == comprehend_phi.__version__


# --- Who knows whom -------------------------------------------------------------------------------


# Only these modules contain AWS's member names. The rest of the package uses them.
SPELLING = {
    "_members.py",
    "_service/codec.py",
    "_shapes.py",  # names the service model's shapes
    "_results/boto3_storage.py",
    "_results/decoding.py",
}
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in {"cli", "review", "testing"}
    and path.relative_to(PACKAGE).as_posix() not in SPELLING
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_a_few_modules_know_the_services_spelling(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    members = {"JobId", "S3Bucket", "S3Key", "JobStatus", "KMSKey", "ClientRequestToken", "JobName"}
    shapes = {"JobStatus"} if name in {"models.py", "__init__.py"} else set[str]()
    assert strings & members <= shapes


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_installed_package_is_what_is_tested() -> None:
    assert Path(sys.prefix) in Path(comprehend_phi.__file__).parents
