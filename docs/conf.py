"""The Sphinx configuration, for `make docs`. The build needs no network."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sphinx.domains.python import PyObject

import comprehend_phi

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "comprehend_phi"
author = "The comprehend_phi maintainers"
release = metadata.version("comprehend_phi")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"comprehend_phi {release}"
html_show_copyright = False
html_copy_source = False

myst_heading_anchors = 3

# Docstrings are in Google style. Attributes are fields of their class, not entries of their own.
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_mock_imports = ["airflow", "asgiref"]  # they are in an environment of their own
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# In docstrings, backticks link to the reference if they contain one of its names.
default_role = "py:obj"

nitpicky = True
nitpick_ignore_regex = [
    # Backticks also contain literals, such as `en` and `{type}`.
    ("py:obj", r".*"),
    # Names of other projects. Links to them would need inventories from the network.
    (
        "py:(class|exc)",
        r"(airflow|boto3|botocore|collections|concurrent|datetime|decimal|enum|msgspec|os|pyarrow|typing|typing_extensions)\..*",
    ),
    # Names without a module, most of them from the language.
    (
        "py:(class|exc)",
        r"([a-z]\w*|Any|BaseClient|Callable|Config|Results|Session|TimeoutError|TypeError|RuntimeError)",
    ),
]

_NOT_BUILT_BY_USERS = {"Job", "AsyncJob", "JobResults", "AsyncJobResults", "LocalService"}
_DEFAULTS = [
    (re.compile(r"<(?:\w+\.)*(\w+) object[^>]*>"), r"\1()"),
    (re.compile(r"<function (\w+)[^>]*>"), r"\1"),
    (re.compile(r"= (RetryPolicy|WaitPolicy)\([^)]*\)"), r"= \1()"),
    (re.compile(r"\bNOTHING\b"), "..."),
]
_QUALIFIED_SECTION = re.compile(r"(Attributes|Raises), (.+):")


def _plain_sections(
    _app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Turn two habits of our docstrings into reStructuredText.

    "Attributes, beside those of X:" becomes a sentence and a section that napoleon knows. An
    indented block after a paragraph becomes a literal block.
    """
    for index in reversed(range(len(lines))):
        if found := _QUALIFIED_SECTION.fullmatch(lines[index]):
            where = found[2][0].upper() + found[2][1:]
            lines[index : index + 1] = [f"{where}:", "", f"{found[1]}:"]
    for index in reversed(range(2, len(lines))):
        paragraph, empty, block = lines[index - 2 : index + 1]
        if block.startswith("    ") and not empty and paragraph and paragraph[0] != " ":
            lines[index:index] = ["::", ""]


def _signature(
    _app: Sphinx,
    what: str,
    name: str,
    _obj: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Hide the constructors that only clients call, and show defaults as you would write them."""
    if what == "class" and name.rpartition(".")[2] in _NOT_BUILT_BY_USERS:
        return "", None
    if signature is None:
        return None
    for default, written in _DEFAULTS:
        signature = default.sub(written, signature)
    return signature, returns


def _public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element
) -> Element | None:
    """Link an annotation that names a class by its private module to the class's public name."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if not module.startswith("comprehend_phi") or name not in comprehend_phi.__all__:
        return None
    domain: Any = env.get_domain("py")
    found: Element | None = domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"comprehend_phi.{name}", node, content
    )
    return found


def setup(app: Sphinx) -> None:
    """Connect the functions above. The docstrings are changed before napoleon reads them."""
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _plain_sections, priority=400)
    app.connect("missing-reference", _public_name)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
