"""How Sphinx makes the site: `make docs`, into docs/_build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wgpy import __version__

project = "wgpy"
author = "the wgpy developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# What the benchmark writes is linked from its page.
exclude_patterns = ["_build", "bench"]
html_theme = "furo"
html_title = f"wgpy {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# Links between pages name a heading as GitHub does.
myst_heading_anchors = 3
# Single backticks in docstrings are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"


def _pictures(app: object, what: str, name: str, thing: object, options: object, lines: list[str]):
    """What is indented in a docstring is a picture, and shown as it is."""
    if lines and lines[0].startswith("Alias for field number "):
        lines.clear()  # what namedtuple says of every field
    shown: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(" ") and not inside:
            shown += ["", "::", ""]
            inside = True
        elif line and not line.startswith(" ") and inside:
            shown.append("")
            inside = False
        shown.append(line)
    lines[:] = shown


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _pictures)
