"""Formulas as drawings, made when the page is built: they look alike in every browser, with no script and no network.

MathML would do in a browser that finds a font for mathematics; on Linux most find none.
"""

from typing import Any
from xml.etree import ElementTree

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

EM = 16.0  # units of a drawing to the height of the text around it
logger = logging.getLogger(__name__)
ziamath.config.svg2 = False  # no shared parts: several drawings stand in one page
ziamath.config.precision = 2


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("drawn", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(page: HTML5Translator, node: nodes.math) -> None:
    page.body.append(drawn(node, inline=True))
    raise nodes.SkipNode


def block(page: HTML5Translator, node: nodes.math_block) -> None:
    page.body.append(f'<div class="formula">{drawn(node, inline=False)}</div>\n')
    raise nodes.SkipNode


def drawn(node: nodes.Element, *, inline: bool) -> str:
    """The formula as an ``svg`` element that stands on the line and takes the colour of the text."""
    text = " ".join(node.astext().split())
    formula = ziamath.Latex(text, size=EM, color="currentColor", inline=inline)
    if "\\" in formula.mathmlstr():
        logger.warning("a command of this formula is not known: %s", text, location=node)
    picture = formula.svgxml()
    _, top, width, height = (float(side) for side in picture.attrib["viewBox"].split())
    picture.set("width", f"{width / EM:.3f}em")
    picture.set("height", f"{height / EM:.3f}em")
    picture.set("style", f"vertical-align: {-(top + height) / EM:.3f}em")
    picture.set("role", "img")
    picture.set("aria-label", text)
    return ElementTree.tostring(picture, encoding="unicode")
