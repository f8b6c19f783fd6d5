"""How Sphinx builds these pages: `make docs`. Nothing here asks the network."""

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

# Docstrings are Google style. Attributes become fields of their class, not entries of their own.
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# What stands in backticks in a docstring is a link where it is a name of the reference.
default_role = "py:obj"

nitpicky = True
nitpick_ignore_regex = [
    # Backticks also hold literals, such as `en` and `{type}`.
    ("py:obj", r".*"),
    # The names of other projects: a link would need their inventories from the network.
    (
        "py:(class|exc)",
        r"(boto3|botocore|collections|concurrent|datetime|enum|msgspec|typing|typing_extensions)\..*",
    ),
    # Those of the language, which carry no module.
    (
        "py:(class|exc)",
        r"([a-z]\w*|Any|BaseClient|Callable|Config|Session|TimeoutError|TypeError|RuntimeError)",
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
    """Write as reStructuredText what docstrings write for people.

    "Attributes, beside those of X:" becomes a sentence and a section that napoleon knows, an
    indented block after a paragraph becomes a literal one.
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
    """Show no constructor of what the clients make, and defaults as they would be written."""
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
    """Let an annotation that names a class by its room lead to its public name."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if not module.startswith("comprehend_phi") or name not in comprehend_phi.__all__:
        return None
    domain: Any = env.get_domain("py")
    found: Element | None = domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"comprehend_phi.{name}", node, content
    )
    return found


def setup(app: Sphinx) -> None:
    """Connect the functions above; napoleon reads the docstrings after the first."""
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _plain_sections, priority=400)
    app.connect("missing-reference", _public_name)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
