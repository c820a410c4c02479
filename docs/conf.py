"""Settings of the documentation: `sphinx-build -W -b html docs docs/_build/html`. No page fetches from other hosts."""

from __future__ import annotations

import fastapi  # noqa: F401  # autodoc imports as type checkers do, which FastAPI's own models do not bear
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from anomalib_cxr import __version__

project = "anomalib_cxr"
author = "The anomalib_cxr authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
default_role = "code"
exclude_patterns = ["_build"]

napoleon_use_ivar = True  # attributes in a class docstring are no objects of their own: autodoc lists them

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = "anomalib_cxr"
html_math_renderer = "mathml"
html_copy_source = False


def _write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers draw themselves: Sphinx's own renderers need a CDN or LaTeX."""
    app.add_html_math_renderer("mathml", (_write_inline, None), (_write_block, None))
