"""The stub `_sdk.pyi` describes what Airflow really has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

from comprehend_phi.airflow import _sdk

from .conftest import AIRFLOW_VERSION

STUB = ast.parse(Path(_sdk.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
# Airflow 3.3 calls this method. Older versions know nothing of it.
NEW = {"BaseTrigger.on_kill": (3, 3)}
# Classes without a public name. Instances have `output` and `log`, too.
PRIVATE = {"_Task": AwsBaseOperator, "_ConnectionWrapper": AwsConnectionWrapper}


def declared() -> list[tuple[str, Any, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return the name, the owner and the declaration of each function in the stub."""
    found: list[tuple[str, Any, ast.FunctionDef | ast.AsyncFunctionDef]] = []
    for node in STUB.body:
        if isinstance(node, (ast.AsyncFunctionDef, ast.FunctionDef)):
            found.append((node.name, _sdk, node))
        if isinstance(node, ast.ClassDef):
            owner: Any = PRIVATE.get(node.name) or getattr(_sdk, node.name, _sdk.conf)
            found.extend(
                (f"{node.name}.{each.name}", owner, each)
                for each in node.body
                if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
            )
    return [each for each in found if NEW.get(each[0], (2, 11)) <= AIRFLOW_VERSION]


@pytest.mark.parametrize(("name", "owner", "node"), declared(), ids=lambda value: str(value)[:30])
def test_a_function_of_the_stub_exists_and_has_its_parameters(
    name: str, owner: Any, node: ast.FunctionDef
) -> None:
    real = inspect.getattr_static(owner, node.name) if isinstance(owner, type) else None
    real = getattr(owner, node.name) if real is None else real
    if any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list):
        assert not inspect.isfunction(real)
        return
    parameters = inspect.signature(getattr(owner, node.name)).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    names = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]

    assert {each for each in names if each not in ("self", "cls", "function")} <= {
        *parameters,
        *(names if takes_any else ()),
    }


def test_the_stub_declares_every_name_that_the_module_has() -> None:
    kinds = (ast.AsyncFunctionDef, ast.ClassDef, ast.FunctionDef)
    names = {node.name for node in STUB.body if isinstance(node, kinds)}
    names |= {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]

    assert set(vars(_sdk)["__all__"]) <= names
