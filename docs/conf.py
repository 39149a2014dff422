"""Settings of Sphinx for the course's pages. `tools/pages.py` assembles the sources.

A page loads nothing from elsewhere, so formulas are turned into MathML here.
"""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

project = "VAE vs. autoencoder on Fashion-MNIST"
language = "en"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "VAE vs. autoencoder on Fashion-MNIST"
html_static_path = ["../course/assets/pages.css", "../course/assets/pages.js"]
html_extra_path = ["../course/assets/map.png", "../course/assets/train.png"]
html_css_files = ["pages.css"]
html_js_files = ["pages.js"]
nb_code_prompt_show = "Show {type}"
html_copy_source = False
html_scaled_image_link = False
html_show_copyright = False
html_use_index = False
suppress_warnings = ["toc.no_title"]  # a reader's own notebook may lack a heading


def setup(app):
    """Register a renderer that turns formulas into MathML."""
    converter, logger = LatexToMathML(), logging.getLogger(__name__)

    def visit(translator, node):
        display = isinstance(node, nodes.math_block)
        latex = node.astext()
        try:
            formula = converter.convert_with_local_state(latex, displaystyle=display)
        except LatexError:
            formula = ""
            logger.warning("this formula cannot be rendered: %s", latex, location=node)
        html = f'<div class="math">{formula}</div>' if display else formula
        translator.body.append(html)
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
