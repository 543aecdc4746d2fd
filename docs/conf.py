"""How Sphinx builds these pages; `make docs` does it. Nothing here, and nothing in a built page, needs the network."""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from batchproof import __version__

project = "batchproof"
copyright = "the batchproof authors"  # noqa: A001 - Sphinx's own name for it
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "formulas",
    "rule_pages",
    "command_line",
    "terminal",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "batchproof"
html_math_renderer = "drawn"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
python_display_short_literal_types = python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# A name in backticks is a link where this reference has the name, and code where it has not. A broken link to a name of
# batchproof fails the build; those to torch and to Python would need the network to be looked up.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!batchproof\.).*"),
    ("py:class", r"batchproof\.(derive\.program\.Program|derive\.plan\.StatePlan|explanation\.result\.Code_co)"),
]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _without_fields)


def _without_fields(_: Sphinx, what: str, *about: Any) -> tuple[str, str] | None:
    """No class here is made by hand, so none shows beside its name what it is made of."""
    return ("", "") if what == "class" else None
