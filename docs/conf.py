"""Sphinx configuration: the manual, the API reference from the docstrings, and the gallery from the examples."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from torch.nn import Module

import skcvae

sys.path.insert(0, str(Path(__file__).parent))  # for reading_order
project = "skcvae"
author = "The skcvae developers"
copyright = "The skcvae developers"
release = version = skcvae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
]
exclude_patterns = ["_build", "_templates", "auto_examples/**.ipynb", "auto_examples/**.py"]
templates_path = ["_templates"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}

# The API reference. Docstrings name types in words, so that signatures need no annotations.
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
default_role = "py:obj"
toc_object_entries_show_parents = "hide"
smartquotes = False

# The headings of benchmarks/README.md stand under one of docs/performance.rst, without its own title.
suppress_warnings = ["myst.header"]

# Every reference to a public name must resolve. Names of parameters and fitted attributes stand in single backticks as well, and
# are no targets.
nitpicky = True
nitpick_ignore_regex = [("py:obj", r"[a-z_0-9]+(=.*)?")]

sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "reading_order.ReadingOrder",
    "ignore_pattern": r"(^|/)digits\.py$",
    "doc_module": ("skcvae",),
    "backreferences_dir": "generated/backreferences",
    "min_reported_time": 0,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}
# The examples' figures are in the page; a backend without windows says so at plt.show().
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

html_theme = "pydata_sphinx_theme"
html_title = "skcvae"
html_static_path = ["_static"]
html_css_files = ["skcvae.css"]
html_show_sourcelink = False
#: Pages without siblings to navigate to.
html_sidebars = {name: [] for name in ("index", "method", "extending", "performance", "glossary", "changes")}
html_theme_options = {
    "logo": {"text": "skcvae"},
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 5,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
#: Text in single backticks, which are no part of double ones.
SINGLE_BACKTICKS = re.compile(r"(?<!`)`([^`]+)`(?!`)")
#: scikit-learn's own methods that an estimator's page leaves out; they route metadata, of which these estimators take none.
ROUTING = ("get_metadata_routing", "set_inverse_transform_request", "set_score_samples_request")


def skip_member(app: object, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out what a class has from torch's modules, and metadata routing; None keeps Sphinx's own choice."""
    of_torch = name in vars(Module) and str(getattr(obj, "__module__", "torch")).startswith("torch")
    return True if of_torch or name in ROUTING else None


def plain_references(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """scikit-learn's docstrings refer to pages of its own manual: leave the sentences that do not, with names as literals."""
    if str(getattr(obj, "__module__", "")).startswith("sklearn"):
        kept = [line for line in lines if ":ref:" not in line and "for an example on how to use" not in line]
        lines[:] = [SINGLE_BACKTICKS.sub(r"``\1``", line.replace(":class:", "")) for line in kept]


def from_benchmarks(app: Any, doctree: nodes.document) -> None:
    """docs/performance.rst includes benchmarks/README.md, whose pictures and links are named from its own folder.

    Links to files that are no pages of the manual become plain text; a link to what is not there is left, and warned of.
    """
    if app.env.docname != "performance":
        return
    for image in doctree.findall(nodes.image):
        if not image["uri"].startswith(("/", "..", "http")):
            image["uri"] = f"../benchmarks/{image['uri']}"
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link["reftype"] == "myst" and (BENCHMARKS / link["reftarget"]).exists():
            link.replace_self(link.children)


def setup(app: Any) -> None:
    app.connect("doctree-read", from_benchmarks, priority=100)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", plain_references, priority=100)
